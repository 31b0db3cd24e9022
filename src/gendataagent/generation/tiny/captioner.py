"""A captioner without a model: it names the attributes that stand out in the pixels."""

from __future__ import annotations

from collections.abc import Sequence

from gendataagent.core.protocols import CaptionRequest
from gendataagent.core.records import ModelDescription
from gendataagent.generation.tiny.attributes import read_attributes
from gendataagent.generation.tiny.vocabulary import NAME, REVISION, caption_of


class AttributeCaptioner:
    """Captions such as "brown, on a green background, in bright light".

    The bundled generator was trained on these words; other generators understand them too. Seeds
    are not used: the same image always gets the same caption.
    """

    description = ModelDescription(name=NAME, revision=REVISION)

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Return one caption per image, never empty: both colours are always named."""
        return [caption_of(read_attributes(request.image)) for request in requests]

    def release(self) -> None:
        """Do nothing: there is no model."""
