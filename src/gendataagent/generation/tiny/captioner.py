"""A captioner without a model: it says which attributes stand out in the pixels."""

from __future__ import annotations

from collections.abc import Sequence

from gendataagent.core.protocols import CaptionRequest
from gendataagent.core.records import ModelDescription
from gendataagent.generation.tiny.attributes import read_attributes
from gendataagent.generation.tiny.vocabulary import NAME, REVISION, caption_of


class AttributeCaptioner:
    """Captions such as "brown, on a green background, in bright light".

    The words are those the bundled generator was trained on; any other generator understands them
    too. The same image always gets the same caption, so seeds are not used.
    """

    description = ModelDescription(name=NAME, revision=REVISION)

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Return one caption per image; never empty (both colours can always be read)."""
        return [caption_of(read_attributes(request.image)) for request in requests]

    def release(self) -> None:
        """Do nothing: there is no model."""
