"""Models on disk or on a hub: this machine is asked first, and every failure ends in advice.

All backends load through `load`, so that a wrong folder, a gated model or a missing network reads
the same whatever the model is for. `check` finds most of that before anything heavy is loaded.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gendataagent.core.errors import ModelError

Model = TypeVar("Model")

WEIGHTS = ".safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NOT_FOUND = frozenset({"RepositoryNotFoundError", "RevisionNotFoundError"})
_HASHED = frozenset({".json", ".safetensors", ".txt", ".model", ".jinja"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where a model comes from, and which setting named it.

    Args:
        setting: the key in the settings, for messages ("generation.generator").
        kind: what it has to be, for messages ("a diffusers pipeline").
        name: folder, or id on the hub.
        index_file: the file without which it is no such model ("model_index.json").
        revision: of the hub; "" = the newest.
        instead: what a user can do without it, for messages.
    """

    setting: str
    kind: str
    name: str
    index_file: str = "config.json"
    revision: str = ""
    trust_remote_code: bool = False
    instead: str = ""

    @property
    def folder(self) -> Path | None:
        """The folder it lies in, or None for an id on the hub."""
        place = Path(self.name).expanduser()
        return place if place.is_dir() else None


def load(source: ModelSource, loader: Callable[..., Model]) -> Model:
    """Return `loader(place, local_files_only=..., revision=..., trust_remote_code=...)`.

    A folder, and a hub model that is on this machine, are loaded without asking the network.

    Raises:
        ModelError: with a sentence that says what to do.
    """
    folder = source.folder
    options: dict[str, Any] = {"trust_remote_code": source.trust_remote_code}
    if folder is not None:
        check_folder(source, folder)
        return _load_or_advise(source, loader, str(folder), local_files_only=True, **options)
    if looks_like_path(source.name):
        raise ModelError(_no_folder(source))
    options["revision"] = source.revision or None
    try:
        return loader(source.name, local_files_only=True, **options)
    except ModelError:
        raise
    except Exception as error:  # not here, or not whole: the hub has it
        local_error = error
    try:
        return _load_or_advise(source, loader, source.name, local_files_only=False, **options)
    except ModelError as error:
        cause = error.__cause__
        if is_here(source) and isinstance(cause, Exception) and _is_about_network(cause):
            # What is wrong with the files at hand helps more than that they cannot be had anew.
            raise ModelError(advice(source, local_error)) from local_error
        raise


def _load_or_advise(
    source: ModelSource, loader: Callable[..., Model], place: str, **options: Any
) -> Model:
    try:
        return loader(place, **options)
    except ModelError:
        raise
    except Exception as error:  # the libraries below raise a dozen kinds for the same faults
        raise ModelError(advice(source, error)) from error


def load_first(
    sources: Sequence[ModelSource], loader: Callable[..., Model]
) -> tuple[ModelSource, Model]:
    """Return the first of several places of one model that has it, and the model from there.

    One that is on this machine goes before those that are not. Of the others the next is asked only
    when a repository or its revision does not exist.

    Raises:
        ModelError: about the first place, when none has it.
    """
    for source in sources:
        if source.folder is None and is_here(source):
            return source, load(source, loader)
    first_error: ModelError | None = None
    for source in sources:
        try:
            return source, load(source, loader)
        except ModelError as error:
            first_error = first_error or error
            if not is_not_found(error):
                raise first_error from error.__cause__
    raise first_error or ModelError("there is no place to load the model from; name one")


def check_first(sources: Sequence[ModelSource]) -> None:
    """Raise `ModelError` if none of several places of one model can be used, as `load_first`."""
    if any(source.folder is None and is_here(source) for source in sources):
        return
    first_error: ModelError | None = None
    for source in sources:
        try:
            check(source)
            return
        except ModelError as error:
            first_error = first_error or error
            if not is_not_found(error):
                raise first_error from error.__cause__
    if first_error is not None:
        raise first_error


def is_here(source: ModelSource) -> bool:
    """Return whether a model lies on this machine, as far as its index file tells."""
    return source.folder is not None or cached_file(source, source.index_file) is not None


def cached_file(source: ModelSource, name: str) -> Path | None:
    """Return where a file of a hub model lies in the hub's cache, or None."""
    if looks_like_path(source.name):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        here = try_to_load_from_cache(source.name, name, revision=source.revision or None)
    except HFValidationError:  # a name that no hub model can have
        return None
    return Path(here) if isinstance(here, str) else None


def is_not_found(error: ModelError) -> bool:
    """Return whether a model could not be loaded because the hub has no such thing."""
    kinds = _kinds(error)
    return bool(kinds & _NOT_FOUND) and "GatedRepoError" not in kinds


def check(source: ModelSource) -> None:
    """Raise `ModelError` for what can be known to be wrong without loading weights.

    A folder is looked through. Of a hub model that is not on this machine the index file alone is
    fetched: that shows a misspelt id, a revision that does not exist, a gate and a missing network.
    """
    if source.folder is not None:
        check_folder(source, source.folder)
        return
    if looks_like_path(source.name):
        raise ModelError(_no_folder(source))
    if is_here(source):
        return
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(source.name, source.index_file, revision=source.revision or None)
    except Exception as error:  # of requests, httpx and the hub's own kinds
        raise ModelError(advice(source, error)) from error


def _no_folder(source: ModelSource) -> str:
    sentence = (
        f"{source.setting}: there is no folder {source.name}; name one that is there, or an id on "
        "the hub"
    )
    return _with_instead(source, sentence)


def looks_like_path(name: str) -> bool:
    """Return whether a name can only be meant as a path on this machine."""
    return name.startswith((".", "~", os.sep)) or "\\" in name or name.count("/") > 1


def check_folder(source: ModelSource, folder: Path) -> None:
    """Raise `ModelError` if a model's folder lacks files or holds cut ones."""
    if fault := _fault_of_folder(source, folder):
        raise ModelError(_with_instead(source, f"{source.setting}: the folder {folder}{fault}"))


def check_file(setting: str, path: Path) -> None:
    """Raise `ModelError` if a safetensors file is not whole."""
    if fault := _fault_of_weights(path):
        raise ModelError(f"{setting}: {path} {fault}; download it again")


def _fault_of_folder(source: ModelSource, folder: Path) -> str | None:
    """Return what is wrong with a model's folder, and what to do, or None."""
    index = source.index_file
    if not (folder / index).is_file():
        return (
            f" has no {index}, so it is not {source.kind}; name one written by "
            "save_pretrained or downloaded whole (hf download NAME --local-dir DIR)"
        )
    try:
        json.loads((folder / index).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        return f": {index} cannot be read ({error}); download it again"
    weights = sorted(folder.rglob(f"*{WEIGHTS}"))
    if not weights:
        pickled = [p.name for p in sorted(folder.rglob("*")) if p.suffix in PICKLED]
        why = (
            f" ({', '.join(pickled[:3])} hold pickled ones, which can run code)" if pickled else ""
        )
        return (
            f" has no safetensors weights{why}; download the safetensors files, or save the "
            "model again with save_pretrained"
        )
    for path in weights:
        if fault := _fault_of_weights(path):
            return f": {path.relative_to(folder)} {fault}; download it again"
    for path in sorted(folder.rglob(f"*{WEIGHTS}.index.json")):
        missing = _missing_shards(path)
        if missing:
            return (
                f" lacks {', '.join(missing[:3])}, which {path.name} names: the download "
                "stopped half-way; run it again"
            )
    return None


def _with_instead(source: ModelSource, sentence: str) -> str:
    return f"{sentence}. {source.instead}" if source.instead else sentence


def _fault_of_weights(path: Path) -> str | None:
    """Return what is wrong with a safetensors file as far as its header tells, or None."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8:
                return f"is cut off ({size} bytes)"
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"is no safetensors file ({error})"
    expected = 8 + length + max(ends, default=0)
    return None if size == expected else f"has {size} of {expected} bytes"


def _missing_shards(index: Path) -> list[str]:
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, LookupError, AttributeError):
        return [index.name]
    return sorted(name for name in named if not (index.parent / name).is_file())


def advice(source: ModelSource, error: Exception) -> str:
    """Return a sentence on why a model cannot be used, and what to do."""
    reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    start = f"{source.setting}: cannot load {source.name!r} as {source.kind}"
    at = f" at revision {source.revision!r}" if source.revision else ""
    kinds = _kinds(error)
    text = " ".join(str(error).split()).casefold()
    if "GatedRepoError" in kinds or "gated" in text:
        todo = (
            f"it is gated. Accept its terms at https://huggingface.co/{source.name}, then log in "
            "with: hf auth login (or set HF_TOKEN)"
        )
    elif "RevisionNotFoundError" in kinds or "is not a valid git identifier" in text:
        todo = f"the hub has no revision {source.revision!r} of it; leave the revision empty"
    elif "RepositoryNotFoundError" in kinds:
        todo = "the hub has no such model, or it is private; check the spelling, or hf auth login"
    elif "trust_remote_code" in text:
        todo = (
            "it comes with Python code of its own, which is not run unless you say so: read the "
            "code, then set trust_remote_code=true"
        )
    elif kinds & {"OutOfMemoryError", "MemoryError"} or "can't allocate memory" in text:
        todo = "the memory does not suffice; use a smaller model, or another dtype"
    elif source.folder is None and _is_about_network(error):
        todo = (
            f"it is not on this machine{at}, and the hub cannot be reached. Download it where "
            f"there is a network (hf download {source.name}), or name a folder"
        )
    elif "ImportError" in kinds or "ModuleNotFoundError" in kinds:
        todo = f"a package is missing ({reason})"
    elif source.folder is None:
        todo = f"{reason}. If its files on this machine are not whole: hf download {source.name}"
    else:
        todo = f"{reason}. It must be a whole folder as save_pretrained writes it"
    return _with_instead(source, f"{start}: {todo}")


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _kinds(error: BaseException) -> set[str]:
    """Return the names of an error's classes and of those of its causes.

    By name: importing the kinds costs the import of the hub's library, which may be what failed.
    """
    return {cls.__name__ for one in (error, *_causes(error)) for cls in type(one).__mro__}


def _is_about_network(error: BaseException) -> bool:
    kinds, text = _kinds(error), " ".join(str(error).split()).casefold()
    names = {
        "LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError",
        "TimeoutError", "TimeoutException", "MaxRetryError", "ProxyError", "SSLError",
    }  # fmt: skip
    signs = ("offline", "couldn't connect", "connection error", "internet connection",
             "find them in the cached files", "in the disk cache")  # fmt: skip
    return bool(kinds & names) or any(sign in text for sign in signs)


def revision_of(source: ModelSource) -> str:
    """Return what tells this state of the model from others: a folder's hash, a hub commit.

    Of a hub model that is not on this machine, the revision asked for.
    """
    if source.folder is not None:
        return content_hash(source.folder)
    index = cached_file(source, source.index_file)
    return index.parent.name if index is not None else source.revision  # .../snapshots/COMMIT/...


def content_hash(folder: Path) -> str:
    """Return a hash of a model folder: names and contents of all its files that matter.

    A gigabyte takes about a second, so it is done once per process and state of the folder.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix in _HASHED and p.is_file())
    return _hash_of_files(
        tuple((p.relative_to(folder).as_posix(), p, p.stat().st_mtime_ns) for p in files)
    )


def file_hash(path: Path) -> str:
    """Return a hash of what a file holds, whatever it is called."""
    return _hash_of_files((("", path, path.stat().st_mtime_ns),))


@functools.cache
def _hash_of_files(files: tuple[tuple[str, Path, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, path, _ in files:
        with open(path, "rb") as stream:
            content = hashlib.file_digest(stream, "blake2b").digest()
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()
