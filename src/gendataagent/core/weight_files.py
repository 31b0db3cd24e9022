"""The safetensors files of a model folder: which count, whether they are whole, what they hold.

Only headers are read, and the zeros at the end of a file, so that the largest model takes a
fraction of a second.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendataagent.core.text import reason_of

WEIGHTS = ".safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
INDEX = f"{WEIGHTS}.index"
_LEAST_MATRIX = 256  # numbers
_CHUNK = 1 << 20
_MOST_ZEROS = 1 << 24  # at the end of a file; rows of an embedding that fill it up have fewer
_LONGEST_HEADER = 100_000_000  # bytes; the library reads no longer one


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file, by its header.

    Args:
        dtype: as safetensors names it: F32, BF16, I64...
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """The tensors of the files that a library would load.

    Args:
        listed_in: the file to name for a tensor that none of them has.
        promised: tensor -> shard, of tensors that the index of the shards lists and none has.
    """

    tensors: Mapping[str, StoredTensor]
    listed_in: Path
    promised: Mapping[str, Path]


def is_litter(path: Path, folder: Path) -> bool:
    """Return whether a file in `folder` is hidden, or in a hidden folder: `._x.safetensors`.

    macOS leaves such a file of its own beside each file that it copies to another file system.
    """
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def find_files(folder: Path, pattern: str, *, deep: bool = True) -> list[Path]:
    """Return the files of `folder` that match, sorted, hidden ones left out.

    A broken link or a pipe among them is returned too: `fault_of_weights` names it.

    Args:
        deep: whether to look into the folders in it.
    """
    found = folder.rglob(pattern) if deep else folder.glob(pattern)
    return sorted(path for path in found if not is_litter(path, folder) and not path.is_dir())


def weight_files(folder: Path) -> list[Path]:
    """Return all safetensors files of a model folder, those of its parts included."""
    return find_files(folder, f"*{WEIGHTS}")


def fault_of_weights(path: Path) -> str | None:
    """Return what is wrong with a safetensors file and what to do, by its header and its end, or
    None.

    It is for the end of a sentence that names the file.
    """
    if is_broken_link(path):
        return "is a link to a file that is not there; copy the files themselves (cp -rL)"
    if not path.is_file():
        return "is not a regular file; download it again"
    size = path.stat().st_size
    try:
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, _LONGEST_HEADER):
                return f"is truncated ({size} bytes); download it again"
            header = json.loads(stream.read(length))
        entries = {key: entry for key, entry in header.items() if key != "__metadata__"}
        ends = [entry["data_offsets"][1] for entry in entries.values()]
        expected = 8 + length + max(ends, default=0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"is not a safetensors file ({reason_of(error, 200)}); download it again"
    if size != expected:
        return f"has {size} of {expected} bytes; download it again"
    try:
        stored_in(path)
    except ValueError as error:  # tensors that overlap, or are of another size than their shape
        return f"has a damaged header ({error}); download it again"
    zeros = zeros_at_end(path)
    if zeros >= _MOST_ZEROS:
        return f"ends in {zeros:,} zeros or more: it was not fully copied; download it again"
    for name, entry in entries.items():
        is_zero = 8 + length + entry["data_offsets"][0] >= size - zeros
        shape = entry["shape"]
        is_matrix = len(shape) > 1 and shape[0] > 1 and math.prod(shape) >= _LEAST_MATRIX
        if is_zero and is_matrix and "lora" not in name:  # half of a new LoRA is zero
            what = f"ends in {zeros:,} zeros in place of {name}"
            return f"{what}: it was not fully copied; download it again"
    return None


def zeros_at_end(path: Path) -> int:
    """Return how many zeros a file ends in, in bytes, or a number from 16 MiB on.

    An interrupted download may leave a file of full size.
    """
    with open(path, "rb") as stream:
        size = at = stream.seek(0, os.SEEK_END)
        while at and size - at < _MOST_ZEROS:
            start = max(0, at - _CHUNK)
            stream.seek(start)
            if kept := len(stream.read(at - start).rstrip(b"\0")):
                return size - start - kept
            at = start
    return size - at


def stored_in(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of one file.

    Raises:
        ValueError: its header is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            handle: Any = opened  # annotated without its methods
            slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118
            return {
                name: StoredTensor(path, found.get_dtype(), tuple(found.get_shape()))
                for name, found in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise ValueError(reason_of(error, 200)) from error


def metadata_of(path: Path) -> dict[str, str]:
    """Return the metadata in the header of one file, by key.

    Raises:
        ValueError: its header is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(reason_of(error, 200)) from error


def stored_model(
    folder: Path, stem: str, *, variant: str = "", index_first: bool = False
) -> StoredModel | None:
    """Return what is stored of a model; None if it has none of the files a library looks for.

    Args:
        stem: name of its file without suffix: "model", "diffusion_pytorch_model".
        variant: file variant such as "fp16"; "" = the plain files.
        index_first: whether shards go before a single file (diffusers), or after (transformers).

    Raises:
        ValueError: a file is damaged or a shard missing; the sentence names it.
    """
    dot = f".{variant}" if variant else ""
    single = folder / f"{stem}{dot}{WEIGHTS}"
    indices = [folder / f"{stem}{INDEX}{dot}.json", folder / f"{stem}{dot}{INDEX}.json"]
    index = next((path for path in indices if _is_named(path)), None)
    if index is not None and (index_first or not _is_named(single)):
        return _sharded(index)
    if not _is_named(single):
        return None
    return StoredModel(_whole([single]), single, {})


def missing_shards(index: Path) -> list[str]:
    """Return the names of files that an index of shards lists and that are not there."""
    try:
        named = set(_weight_map(index).values())
    except ValueError:
        return [index.name]
    return sorted(name for name in named if not (index.parent / name).is_file())


def _sharded(index: Path) -> StoredModel:
    listed = _weight_map(index)
    if missing := missing_shards(index):
        raise ValueError(
            f"lacks {', '.join(missing[:3])}, listed in {index.name}: the download is "
            "incomplete; run it again"
        )
    tensors = _whole(index.parent / name for name in sorted(set(listed.values())))
    promised = {name: index.parent / file for name, file in listed.items() if name not in tensors}
    return StoredModel(tensors, index, promised)


def _whole(files: Iterable[Path]) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for path in files:
        if fault := fault_of_weights(path):
            raise ValueError(f"{path.name} {fault}")
        for name, tensor in stored_in(path).items():
            if name in tensors:
                raise ValueError(
                    f"{tensors[name].file.name} and {path.name} both hold {name}: shards of two "
                    "models are mixed; download it again into an empty folder"
                )
            tensors[name] = tensor
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """Return tensor -> file of an index of shards; raise `ValueError` if it has none."""
    try:
        if not index.is_file():
            raise ValueError("not a regular file")
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if all(Path(name).name == name for name in listed.values()):
            return dict(listed)
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{index.name} cannot be read ({reason_of(error, 200)}); download it again"
        ) from (error)
    raise ValueError(f"{index.name} names files of other folders; download it again")


def is_broken_link(path: Path) -> bool:
    """Return whether a path is a link to a file that is not there."""
    return path.is_symlink() and not path.exists()


def _is_named(path: Path) -> bool:
    """Return whether there is such a name, a broken link included."""
    return path.is_symlink() or path.exists()
