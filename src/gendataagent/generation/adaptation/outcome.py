"""What an adaptation came to: its weights, what they are made of, the distances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.records import ModelDescription

if TYPE_CHECKING:
    from gendataagent.generation.adaptation.mmd import Distance

RECORD_FILE = "adaptation.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """How far images lie from real ones they were not made from; lower is nearer.

    Args:
        before, after: of what the generator draws from the training images' prompts, the same
            seeds both times, from text alone, after with the LoRA at `lora_scale`.
        change: after minus before; its standard error is that of the paired difference.
        floor: of the real training images themselves; None where nothing was held out.
        images, reference_images: how many were compared with how many.
    """

    before: Distance
    after: Distance
    change: Distance
    floor: Distance | None
    images: int
    reference_images: int
    lora_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """A finished adaptation.

    Args:
        folder: what `generation.lora` may be set to.
        losses: mean loss of each epoch.
        seconds: by stage, over all attempts.
        peak_memory_mib: of the last attempt; see `memory.PeakMemory`.
        distances: None where none were asked for, or the images are too few.
    """

    folder: Path
    weights_sha256: str
    generator: ModelDescription
    images: int
    epochs: int
    steps: int
    size_px: int
    precision: str
    settings: Mapping[str, Any]
    losses: tuple[float, ...]
    seconds: Mapping[str, float]
    peak_memory_mib: float
    distances: Distances | None = None

    @property
    def weights(self) -> Path:
        """The LoRA: a safetensors file in diffusers' format."""
        return self.folder / "pytorch_lora_weights.safetensors"


def rows_of(distances: Distances) -> list[tuple[str, Distance]]:
    """Return name and value of each distance that was measured, to be shown."""
    rows = [
        ("before", distances.before),
        (f"after, LoRA at {distances.lora_scale:g}", distances.after),
        ("change", distances.change),
    ]
    if distances.floor is not None:
        rows.append(("real training images", distances.floor))
    return rows


def read_adaptation(folder: str | Path) -> Adaptation:
    """Return a finished adaptation; raise `RunFolderError` if it is none, or its weights are not.

    The weights are the ones that were written: their hash is looked at.
    """
    from gendataagent.generation.adaptation.mmd import Distance

    path = Path(folder) / RECORD_FILE
    if not path.is_file():
        raise RunFolderError(
            f"{folder} is no finished adaptation (it has no {RECORD_FILE}); go on with: "
            f"gendataagent adapt --resume {folder}"
        )
    row = files.read_json(path)
    try:
        row["generator"] = ModelDescription(**row["generator"])
        row["losses"] = tuple(row["losses"])
        if row["distances"] is not None:
            for name in ("before", "after", "change", "floor"):
                if row["distances"][name] is not None:
                    row["distances"][name] = Distance(**row["distances"][name])
            row["distances"] = Distances(**row["distances"])
        adaptation = Adaptation(folder=Path(folder), **row)
    except (KeyError, TypeError) as error:
        raise RunFolderError(f"{path} is not as it was written: {error!r}") from error
    if not adaptation.weights.is_file():
        raise RunFolderError(f"{adaptation.weights} is missing; remove {path} and adapt again")
    if files.file_sha256(adaptation.weights) != adaptation.weights_sha256:
        raise RunFolderError(
            f"{adaptation.weights} is not as it was written; remove {path}, then it is made again "
            "from the last checkpoint"
        )
    return adaptation
