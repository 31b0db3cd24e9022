"""The result of an adaptation: its weights, its inputs, and the distances to real images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.records import ModelDescription
from gendataagent.core.run_folder import check_folder_done

if TYPE_CHECKING:
    from gendataagent.generation.adaptation.mmd import Distance

RECORD_FILE = "adaptation.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Distances of generated images to real images they were not made from; lower is nearer.

    Args:
        before, after: images generated from text alone, with the training images' prompts and the
            same seeds; `after` with the LoRA at `lora_scale`, and with the words of the classes.
        change: after minus before; its standard error is that of the paired difference.
        floor: distance of the real training images; None without held-out images.
        images: number of generated images.
        reference_images: number of real images.
        lora_scale: None without a LoRA.
    """

    before: Distance
    after: Distance
    change: Distance
    floor: Distance | None
    images: int
    reference_images: int
    lora_scale: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """A finished adaptation.

    Args:
        folder: a valid value of the settings that it makes, see `AdaptationConfig.makes`.
        files: file that holds what was trained, relative to the folder -> its SHA-256.
        settings: everything the weights depend on, as written to settings.json.
        losses: mean loss of each epoch.
        seconds: by stage, over all attempts.
        peak_memory_mib: of the last attempt; see `memory.PeakMemory`.
        distances: None if switched off, or if there are too few images.
    """

    folder: Path
    files: Mapping[str, str]
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
    def paths(self) -> tuple[Path, ...]:
        """The files that hold what was trained."""
        return tuple(self.folder / name for name in self.files)


def distance_rows(distances: Distances) -> list[tuple[str, Distance]]:
    """Return the name and value of each distance measured, for display."""
    lora = "" if distances.lora_scale is None else f", LoRA at {distances.lora_scale:g}"
    rows = [
        ("before", distances.before),
        (f"after{lora}", distances.after),
        ("change", distances.change),
    ]
    if distances.floor is not None:
        rows.append(("real training images", distances.floor))
    return rows


def read_adaptation(folder: str | Path) -> Adaptation:
    """Return the finished adaptation of a folder.

    Raises:
        RunFolderError: it is not finished, or its record or weights were changed.
    """
    from gendataagent.generation.adaptation.mmd import Distance

    path = Path(folder) / RECORD_FILE
    if not path.is_file():
        raise RunFolderError(
            f"{folder} holds no finished adaptation (it has no {RECORD_FILE}); resume it with: "
            f"gendataagent adapt --resume {folder}"
        )
    row = files.read_json(path)
    try:
        row["generator"] = ModelDescription(**row["generator"])
        row["losses"] = tuple(row["losses"])
        row["files"] = {str(name): str(digest) for name, digest in row["files"].items()}
        if row["distances"] is not None:
            for name in ("before", "after", "change", "floor"):
                if row["distances"][name] is not None:
                    row["distances"][name] = Distance(**row["distances"][name])
            row["distances"] = Distances(**row["distances"])
        adaptation = Adaptation(folder=Path(folder), **row)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{path} is not a valid record ({error!r}); remove it and run gendataagent adapt again"
        ) from error
    for name, digest in adaptation.files.items():
        weights = adaptation.folder / name
        if not weights.is_file():
            raise RunFolderError(f"{weights} is missing; remove {path} and adapt again")
        if files.file_sha256(weights) != digest:
            raise RunFolderError(
                f"{weights} was changed after it was written; remove {path} and adapt again: the "
                "weights are rebuilt from the last checkpoint"
            )
    check_folder_done(path.parent, path)
    return adaptation
