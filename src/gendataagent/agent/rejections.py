"""The reasons why an image is not trained on, in words."""

from __future__ import annotations

from collections.abc import Mapping

BY_HAND = "by-hand"
REJECTIONS: Mapping[str, str] = {
    "vog": "dropped by the VoG filter",
    "knn": "dropped by the nearest-neighbour filter",
    "agreement": "dropped by the agreement filter",
    "text-agreement": "dropped by the text-agreement filter",
    "random": "dropped at random",
    "black-image": "black image",
    "no-more-images": "no further like image in the folder",
    "no-image": "no image generated",
    "class-cut-off": "class name cut off from the prompt",
    "flagged-by-safety-checker": "flagged by the safety checker",
    "repeats-test-image": "near-duplicate of a test image",
    "repeats-validation-image": "near-duplicate of a validation image",
    BY_HAND: "dropped by hand",
    "adaptive: strength": "another strength did better",
    "adaptive: share": "another share did better",
    "adaptive: hurts on validation": "worsened the validation loss",
}
"""`Candidate.rejected_by` -> words."""
