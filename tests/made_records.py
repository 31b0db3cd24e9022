"""Records of synthetic images that no generator has made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gendataagent.core.records import Candidate, candidate_id
from gendataagent.data.pixels import Pixels


def candidates_of(
    pixels: Pixels, *, sources: Sequence[str] | None = None, **fields: Any
) -> list[Candidate]:
    """Return one record for each image.

    Args:
        sources: id of the real image of each; None = the image's own id.
        fields: other fields of `Candidate`, the same for all.
    """
    settings: dict[str, Any] = {
        "round": 0, "class_name": "a", "variant": 0, "seed": 1, "strength": 0.5,
        "guidance_scale": 2.0, "num_inference_steps": 4, "negative_prompt": "",
    } | fields  # fmt: skip
    return [
        Candidate(id=candidate_id(0, id_, 0), source_id=source, label=label, **settings)
        for id_, source, label in zip(
            pixels.ids, sources or pixels.ids, pixels.labels.tolist(), strict=True
        )
    ]
