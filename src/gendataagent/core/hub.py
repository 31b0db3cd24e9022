"""Models in a folder or on the Hugging Face hub; local copies first, and errors with advice.

All backends load through `load`, so that a wrong folder, a gated model or a missing network gives
the same message for every kind of model. `check` finds most faults without loading weights.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gendataagent.core.errors import ModelError
from gendataagent.core.files import expand, file_state, parse_others_json, read_bytes
from gendataagent.core.model_settings import fault_of_settings
from gendataagent.core.text import reason_of
from gendataagent.core.weight_files import (
    INDEX,
    PICKLED,
    fault_of_weights,
    find_files,
    missing_shards,
    weight_files,
)

Model = TypeVar("Model")

_NOT_FOUND = frozenset({"RepositoryNotFoundError", "RevisionNotFoundError"})
_HASHED = frozenset({".json", ".safetensors", ".txt", ".model", ".jinja"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where a model comes from, and which setting names it.

    Args:
        setting: the key in the settings, for messages ("generation.generator").
        kind: the kind of model it must be, for messages ("a diffusers pipeline").
        name: a folder or a hub id.
        index_file: the file that every model of this kind has ("model_index.json").
        revision: on the hub; "" = the newest.
        instead: an alternative for the user, for messages.
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
        """Its folder, or None for a hub id."""
        place = expand(self.name)
        return place if place.is_dir() else None


def load(source: ModelSource, loader: Callable[..., Model]) -> Model:
    """Return `loader(place, local_files_only=..., revision=..., trust_remote_code=...)`.

    A folder, and a hub model in the local cache, are loaded without network access.

    Raises:
        ModelError: it cannot be loaded; the message says what to do.
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
    except Exception as error:  # not in the cache, or incomplete there
        local_error = error
    try:
        return _load_or_advise(source, loader, source.name, local_files_only=False, **options)
    except ModelError as error:
        cause = error.__cause__
        if is_here(source) and isinstance(cause, Exception) and _is_about_network(cause):
            # The fault of the local files says more than that the hub cannot be reached.
            raise ModelError(advice(source, local_error)) from local_error
        raise


def _load_or_advise(
    source: ModelSource, loader: Callable[..., Model], place: str, **options: Any
) -> Model:
    try:
        return loader(place, **options)
    except ModelError:
        raise
    except Exception as error:  # the libraries raise a dozen types for the same faults
        raise ModelError(advice(source, error)) from error


def load_first(
    sources: Sequence[ModelSource], loader: Callable[..., Model]
) -> tuple[ModelSource, Model]:
    """Return the first of several mirrors of one model that has it, and the model from there.

    A mirror in the local cache goes first. Of the others, the next one is tried only if a
    repository or its revision does not exist.

    Raises:
        ModelError: no mirror has it; the message is about the first.
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
    raise first_error or ModelError("no mirror of the model is given; name one")


def check_first(sources: Sequence[ModelSource]) -> None:
    """Raise `ModelError` if none of several mirrors of one model can be used by `load_first`."""
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
    """Return whether a model is on this machine, judged by its index file."""
    return source.folder is not None or cached_file(source, source.index_file) is not None


def cached_file(source: ModelSource, name: str) -> Path | None:
    """Return the path of a hub model's file in the local cache, or None."""
    if looks_like_path(source.name):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        here = try_to_load_from_cache(source.name, name, revision=source.revision or None)
    except HFValidationError:  # a name that no hub model can have
        return None
    return Path(here) if isinstance(here, str) else None


def local_folder(source: ModelSource) -> Path | None:
    """Return the folder of a model on this machine: its own, or its place in the hub's cache."""
    if source.folder is not None:
        return source.folder
    index = cached_file(source, source.index_file)
    return None if index is None else index.parent


def is_not_found(error: ModelError) -> bool:
    """Return whether a model could not be loaded because the hub has no such model."""
    kinds = _kinds(error)
    return bool(kinds & _NOT_FOUND) and "GatedRepoError" not in kinds


def check(source: ModelSource) -> None:
    """Raise `ModelError` for every fault that can be found without loading weights.

    The files of a folder are checked. Of a hub model that is not on this machine only the index
    file is downloaded: that reveals a misspelt id, a missing revision, a gate or no network.
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


def check_download(source: ModelSource) -> None:
    """Raise `ModelError` unless the hub can be reached to download the rest of a model."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(source.name, source.index_file, revision=source.revision or None)
    try:
        get_hf_file_metadata(url)
    except Exception as error:  # of requests, httpx and the hub's own kinds
        raise ModelError(advice(source, error)) from error


def _no_folder(source: ModelSource) -> str:
    sentence = (
        f"{source.setting}: there is no folder {source.name}; name an existing folder or a hub id"
    )
    return _with_instead(source, sentence)


def looks_like_path(name: str) -> bool:
    """Return whether a name can only be a local path, not a hub id."""
    return name.startswith((".", "~", os.sep)) or "\\" in name or name.count("/") > 1


def check_folder(source: ModelSource, folder: Path) -> None:
    """Raise `ModelError` if a model's folder lacks files or has truncated ones."""
    if fault := _fault_of_folder(source, folder):
        raise ModelError(_with_instead(source, f"{source.setting}: the folder {folder}{fault}"))


def check_file(setting: str, path: Path) -> None:
    """Raise `ModelError` if a safetensors file is truncated or damaged."""
    if fault := fault_of_weights(path):
        raise ModelError(f"{setting}: {path} {fault}")


def _fault_of_folder(source: ModelSource, folder: Path) -> str | None:
    """Return what is wrong with a model's folder and what to do, or None."""
    index = source.index_file
    if not (folder / index).is_file():
        return (
            f" has no {index}, so it is not {source.kind}; name a folder written by "
            "save_pretrained or downloaded completely (hf download NAME --local-dir DIR)"
        )
    try:
        parse_others_json(read_bytes(folder / index))
    except (ValueError, OSError, RecursionError) as error:
        return f": {index} cannot be read ({error}); download it again"
    for path in find_files(folder, "*config.json"):
        if fault := fault_of_settings(path, trust_remote_code=source.trust_remote_code):
            return f": {path.relative_to(folder)} {fault}"
    weights = weight_files(folder)
    if not weights:
        return f" {without_weights(folder)}"
    for path in weights:
        if fault := fault_of_weights(path):
            return f": {path.relative_to(folder)} {fault}"
    for path in find_files(folder, f"*{INDEX}*.json"):
        if missing := missing_shards(path):
            return (
                f" lacks {', '.join(missing[:3])}, listed in {path.name}: the download is "
                "incomplete; run it again"
            )
    for path in find_files(folder, "*"):
        if path.exists() and not path.is_file():  # reading a pipe may never end
            return f": {path.relative_to(folder)} is not a regular file; download the model again"
    return None


def without_weights(folder: Path) -> str:
    """Return what to say of a model's folder without safetensors weights."""
    pickled = [path.name for path in find_files(folder, "*") if path.suffix in PICKLED]
    why = f" ({', '.join(pickled[:3])} are pickled, which can run code)" if pickled else ""
    return (
        f"has no safetensors weights{why}; download the safetensors files, or save the model with "
        "save_pretrained"
    )


def _with_instead(source: ModelSource, sentence: str) -> str:
    return f"{sentence}. {source.instead}" if source.instead else sentence


def advice(source: ModelSource, error: Exception) -> str:
    """Return one sentence on why a model cannot be used and what to do."""
    reason = reason_of(error)
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
        todo = (
            f"the hub has no revision {source.revision!r} of it; leave the revision empty for the "
            "newest"
        )
    elif "RepositoryNotFoundError" in kinds:
        todo = "the hub has no such model, or it is private; check the spelling, or hf auth login"
    elif "trust_remote_code" in text:
        todo = (
            "it comes with its own Python code, which is not run by default: read the code, then "
            "give --trust-remote-code (in Python: trust_remote_code=True)"
        )
    elif kinds & {"OutOfMemoryError", "MemoryError"} or "can't allocate memory" in text:
        todo = "there is not enough memory; use a smaller model or another dtype"
    elif source.folder is None and _is_about_network(error):
        todo = (
            f"it is not on this machine{at}, and the hub cannot be reached. Download it where "
            f"there is network access (hf download {source.name}), or name a folder"
        )
    elif "ImportError" in kinds or "ModuleNotFoundError" in kinds:
        todo = f"a package is missing ({reason})"
    elif source.folder is None:
        todo = f"{reason}. If its files on this machine are incomplete: hf download {source.name}"
    else:
        todo = f"{reason}. It must be a complete folder as save_pretrained writes it"
    return _with_instead(source, f"{start}: {todo}")


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _kinds(error: BaseException) -> set[str]:
    """Return the class names of an error and of its causes.

    Names, because importing the classes would import the hub's library, which may have failed.
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
    """Return the version of the model: a folder's hash or a hub commit.

    For a hub model that is not on this machine, the requested revision.
    """
    if source.folder is not None:
        return content_hash(source.folder)
    index = cached_file(source, source.index_file)
    return index.parent.name if index is not None else source.revision  # .../snapshots/COMMIT/...


def content_hash(folder: Path) -> str:
    """Return a hash of a model folder: names and contents of its configuration and weights.

    A gigabyte takes about a second, so the result is cached in the process by the files' states.
    """
    found = find_files(folder, "*")
    files = [path for path in found if path.suffix in _HASHED and path.is_file()]
    return hash_of_files((path.relative_to(folder).as_posix(), path) for path in files)


def file_hash(path: Path) -> str:
    """Return a hash of a file's content, whatever its name."""
    return hash_of_files([("", path)])


def hash_of_files(files: Iterable[tuple[str, Path]]) -> str:
    """Return a hash of names and contents, cached in the process by the files' states."""
    return _hash_of_files(tuple((name, path, file_state(path)) for name, path in files))


@functools.cache
def _hash_of_files(files: tuple[tuple[str, Path, str], ...]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, path, _ in files:
        with open(path, "rb") as stream:
            content = hashlib.file_digest(stream, "blake2b").digest()
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()
