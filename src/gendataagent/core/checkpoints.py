"""Training states on disk: written atomically, verified when read, never pickled.

folder/epoch-0010/tensors.safetensors   weights, momentum
folder/epoch-0010/state.json            everything else
folder/epoch-0010/manifest.json         size and SHA-256 of both, written last
vog_folder/epoch-0010.safetensors       weights alone, for the variance of gradients
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from gendataagent.core.errors import RunFolderError, StorageError
from gendataagent.core.files import (
    file_sha256,
    make_folder,
    read_json,
    sync_folder,
    write_bytes,
    write_json,
)

TENSORS_FILE, STATE_FILE, MANIFEST_FILE = "tensors.safetensors", "state.json", "manifest.json"
KEPT_CHECKPOINTS = 2
_EPOCH = re.compile(r"epoch-(\d{4,})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint as `load_latest` returns it.

    Args:
        epoch: epochs trained when it was written.
        damaged: one sentence for each newer checkpoint that could not be used.
    """

    epoch: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]
    damaged: tuple[str, ...] = ()


def save_checkpoint(
    folder: Path, epoch: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> Path:
    """Write the checkpoint of `epoch`, then remove all but the newest two; return its folder.

    Written to a temporary folder and renamed when complete: a crash leaves earlier ones unchanged.

    Raises:
        StorageError: the disk is full, no permission, ...
    """
    target = folder / f"epoch-{epoch:04d}"
    aside = folder / f".{target.name}.{os.getpid()}.tmp"
    try:
        make_folder(folder)
        for leftover in folder.glob(".epoch-*.tmp"):
            shutil.rmtree(leftover)
        aside.mkdir()
        write_bytes(aside / TENSORS_FILE, _tensor_bytes(tensors))
        write_json(aside / STATE_FILE, dict(state))
        write_json(aside / MANIFEST_FILE, _manifest(aside, epoch))
        if target.exists():
            shutil.rmtree(target)
        os.replace(aside, target)
        sync_folder(folder)
        for _, old in list_checkpoints(folder)[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot write the checkpoint {target}: {error.strerror or error}. Earlier ones are "
            "unchanged; free some space or fix the permissions, then run the command again"
        ) from error
    return target


def load_latest(folder: Path, *, at_most: int | None = None) -> Checkpoint | None:
    """Return the newest checkpoint whose hashes match; None if there is no checkpoint.

    Args:
        at_most: ignore checkpoints of later epochs.

    Raises:
        RunFolderError: all checkpoints are damaged.
    """
    damaged: list[str] = []
    for epoch, path in reversed(list_checkpoints(folder)):
        if at_most is not None and epoch > at_most:
            continue
        problem = checkpoint_damage(path, epoch)
        if problem is None:
            return Checkpoint(
                epoch=epoch,
                tensors=safetensors.torch.load((path / TENSORS_FILE).read_bytes()),
                state=read_json(path / STATE_FILE),
                damaged=tuple(damaged),
            )
        damaged.append(f"the checkpoint {path} is damaged: {problem}")
    if damaged:
        raise RunFolderError(
            f"no checkpoint can be used; {'; '.join(damaged)}. Remove {folder} to train from the "
            "start again"
        )
    return None


def weights_path(folder: Path, epoch: int) -> Path:
    """Return the file of the weights of an epoch, whether it exists or not."""
    return folder / f"epoch-{epoch:04d}.safetensors"


def save_weights(
    folder: Path,
    epoch: int,
    weights: Mapping[str, Tensor],
    write: Callable[[Path, bytes], None] = write_bytes,
) -> Path:
    """Write a state dict to `folder/epoch-0010.safetensors`, atomically; return the path."""
    path = weights_path(folder, epoch)
    write(path, _tensor_bytes(weights))
    return path


def save_weights_file(path: Path, weights: Mapping[str, Tensor], about: str = "") -> None:
    """Write a state dict to a safetensors file, atomically; equal arguments give equal bytes.

    Args:
        about: text for the file's metadata.
    """
    write_bytes(path, _tensor_bytes(weights, {"about": about} if about else None))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Return a saved state dict; raise `RunFolderError` if the file is missing or damaged."""
    try:
        return safetensors.torch.load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"cannot read the weights {path}: {error}") from error


def _tensor_bytes(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    # safetensors refuses tensors that share memory (tied weights), hence the copies
    return safetensors.torch.save(
        {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()},
        metadata,
    )


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return (epoch, folder) of the checkpoints, whole or not, oldest first."""
    if not folder.is_dir():
        return []
    found = [(_EPOCH.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def _manifest(folder: Path, epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "files": {
            name: {
                "bytes": (folder / name).stat().st_size,
                "sha256": file_sha256(folder / name),
            }
            for name in (TENSORS_FILE, STATE_FILE)
        },
    }


def checkpoint_damage(path: Path, epoch: int) -> str | None:
    """Return what is wrong with the folder of a checkpoint, or None."""
    try:
        found, written = _manifest(path, epoch), read_json(path / MANIFEST_FILE)
    except (OSError, RunFolderError) as error:
        return str(error)
    if found != written:
        return "its files have changed since they were written"
    return None
