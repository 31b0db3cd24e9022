"""Does an exported model give what the original gives? On real images, in batches and alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from gendataagent.core.errors import ModelError
from gendataagent.data.pixels import Pixels, centre_crop
from gendataagent.runs.exporting.model_formats.model_format import Logits
from gendataagent.training.classifier import BATCH_SIZE, Classifier

TOLERANCE = 1e-3  # of a probability; float32 on another engine differs by about 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How far an exported model is from the original.

    Args:
        images: on how many images both were run; source: which they are.
        largest_logit, largest_probability: largest absolute difference over images and classes.
        same_class: for how many images both name the same class.
    """

    images: int
    source: str
    largest_logit: float
    largest_probability: float
    same_class: int

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        return (
            f"Checked against the original on {self.images:,} {self.source}: largest difference "
            f"{_short(self.largest_logit)} of a logit, {_short(self.largest_probability)} of a "
            f"probability; the same class for {self.same_class:,}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


def check_model(classifier: Classifier, exported: Logits, pixels: Pixels, source: str) -> Check:
    """Return the largest differences over all images, at the classifier's stored size.

    Raises:
        ModelError: they are larger than rounding explains, or the model fails on a batch.
    """
    original_NC = classifier.predict_logits(pixels)
    # one image alone first: a model that has learnt a size of batch fails here
    batches = [torch.arange(1), *torch.arange(len(pixels)).split(BATCH_SIZE)]
    found = []
    for indices_B in batches:
        images_B3SS = centre_crop(pixels.batch(indices_B), classifier.size_px).float() / 255
        logits_BC = exported(images_B3SS.contiguous())
        if tuple(logits_BC.shape) != (len(indices_B), len(classifier.class_names)):
            raise ModelError(
                f"the exported model gives logits of shape {tuple(logits_BC.shape)} for "
                f"{len(indices_B)} images of {len(classifier.class_names)} classes; export it "
                "with another --to"
            )
        found.append(logits_BC.float())
    alone_1C, exported_NC = found[0], torch.cat(found[1:])
    both_MC = torch.cat([alone_1C, exported_NC]), torch.cat([original_NC[:1], original_NC])
    logit = float((both_MC[0] - both_MC[1]).abs().max())
    probability = float((both_MC[0].softmax(1) - both_MC[1].softmax(1)).abs().max())
    check = Check(
        images=len(pixels),
        source=source,
        largest_logit=logit,
        largest_probability=probability,
        same_class=int((exported_NC.argmax(1) == original_NC.argmax(1)).sum()),
    )
    if not probability <= TOLERANCE:  # NaN too
        raise ModelError(
            f"the exported model is not the original, and was not kept. {check.sentence} At most "
            f"{TOLERANCE:g} is rounding. Export it with another --to"
        )
    return check


def _short(difference: float) -> str:
    return f"{difference:.1e}" if difference else "0"
