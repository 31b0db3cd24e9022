"""The folder of the bundled Stable Diffusion."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from gendataagent.core.errors import ModelError

MODEL_NAME = "tiny-sd"
FOLDER = Path(str(files("gendataagent.generation.tiny"))) / MODEL_NAME


def model_folder() -> Path:
    """Return the folder of the bundled Stable Diffusion, for any diffusers `from_pretrained`.

    Raises:
        ModelError: the installation lacks it.
    """
    if not (FOLDER / "model_index.json").is_file():
        raise ModelError(
            f"the bundled model {MODEL_NAME} is not in {FOLDER}; it is part of every release: "
            "reinstall gendataagent, or train it with scripts/bundle/train_tiny_sd.py"
        )
    return FOLDER
