"""What must be done to an image before an exported model sees it, as JSON and in words."""

from __future__ import annotations

from typing import Any

from gendataagent.data.decoding.images import MOST_ELONGATED
from gendataagent.training.classifier import Classifier

PREPROCESSING_FILE = "preprocessing.json"
INPUT, OUTPUT = "images", "logits"


def preprocessing(classifier: Classifier, *, normalised_by_the_model: bool) -> dict[str, Any]:
    """Return the content of `preprocessing.json`: sizes, colours, classes, and the steps in words.

    Args:
        normalised_by_the_model: whether the model itself subtracts the mean and divides by the
            standard deviation.
    """
    resize, crop, classes = classifier.resize_px, classifier.size_px, len(classifier.class_names)
    steps = [
        "Turn the image upright by its EXIF orientation. Put a transparent one on white. Convert "
        "it to RGB with 8 bits a channel.",
        f"Of an image more than {MOST_ELONGATED} times as long as wide, keep only the middle "
        f"{MOST_ELONGATED} : 1.",
        f"Resize it so that the shorter side has {resize} px (the longer one rounded down), "
        "bicubic with antialiasing, as Pillow does.",
        f"Take the centre {resize} x {resize} px, then of those the centre {crop} x {crop} px "
        "(offsets rounded down).",
        "Divide by 255 and order the values as channel, row, column.",
    ]
    if not normalised_by_the_model:
        steps.append("Subtract `mean` and divide by `std`, for each channel.")
    return {
        "classes": list(classifier.class_names),
        "input": {
            "name": INPUT,
            "shape": ["batch", 3, crop, crop],
            "type": "float32",
            "colours": "RGB",
            "range": [0, 1] if normalised_by_the_model else "normalised by mean and std",
        },
        "output": {
            "name": OUTPUT,
            "shape": ["batch", classes],
            "type": "float32",
            "meaning": "one logit for each of `classes`, in that order; softmax gives "
            "probabilities",
        },
        "resize_px": resize,
        "crop_px": crop,
        "resample": "bicubic",
        "mean": list(classifier.mean),
        "std": list(classifier.std),
        "normalised_by_the_model": normalised_by_the_model,
        "steps": steps,
    }
