"""Data sets on the Hugging Face Hub: hub:NAME or hub:NAME:CONFIG.

`datasets` downloads them as Arrow files into its own cache; from there they are read like any other
table, and so is a local folder (hub:./folder). NAME is a Hub id, or the name of one of the paper's
data sets if a copy with the official split is known.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.core.files import expand, file_sha256
from gendataagent.data.formats.table_index import index_tables, names_in
from gendataagent.data.formats.tables import TableFile, with_splits
from gendataagent.data.index import TEST, TRAIN, DatasetIndex, split_of
from gendataagent.data.labels import both_lists, class_name_of
from gendataagent.data.official import PAPER

HUB_PREFIX = "hub:"
_COMMIT = re.compile(r"@([0-9a-f]{40})/")


@dataclass(frozen=True, slots=True)
class HubCopy:
    """A copy of one of the paper's data sets: its id, and splits whose names differ from ours."""

    id: str
    splits: Mapping[str, str] = field(default_factory=dict)


# Ids and splits read on their pages (sizes match Table 5); never loaded, for lack of a network. No
# copy of Birdsnap with the official split is known.
KNOWN = {
    "pets": HubCopy("timm/oxford-iiit-pet"),
    "cub": HubCopy("Donghyun99/CUB-200-2011"),
    "flowers": HubCopy("dpdl-benchmark/oxford_flowers102", {"validation": TRAIN}),
    "food": HubCopy("ethz/food101", {"validation": TEST}),
    "in100": HubCopy("clane9/imagenet-100", {"validation": TEST}),
}


def index_hub(config: DataConfig, *, need_train: bool = True) -> DatasetIndex:
    """Return the index of a data set on the Hub; nothing else in this package downloads data.

    Args:
        need_train: as of `loading.index_data`.

    Raises:
        DataError: no such data set, no network and no cached copy, a configuration has to be
            named, or ambiguous columns.
    """
    wanted, _, configuration = config.path.removeprefix(HUB_PREFIX).partition(":")
    if wanted in PAPER and wanted not in KNOWN:
        raise DataError(
            f"no copy of {PAPER[wanted].title} with the official split is known on the Hub; "
            "download the official archive and give its folder as data.path (docs/data.md)"
        )
    copy = KNOWN.get(wanted, HubCopy(wanted))
    key = wanted if wanted in KNOWN else next((k for k, c in KNOWN.items() if c.id == wanted), "")
    if key:
        copy = KNOWN[key]
    if not copy.id:
        raise DataError("data.path is hub: without a name; give hub:ORGANISATION/NAME")
    if copy.id.startswith((".", "~", "/")) and not expand(copy.id).is_dir():
        raise DataError(f"data.path {config.path}: no folder {copy.id}")
    loaded = _load(copy.id, configuration, config.revision)
    _require_own_names(copy.id, configuration, loaded)
    found: list[tuple[str, str, str | None]] = []
    for split, part in loaded.items():
        paths = dict.fromkeys(entry["filename"] for entry in part.cache_files)
        for number, path in enumerate(paths):
            found.append((f"{split}/{number:05d}", path, copy.splits.get(split, split_of(split))))
    files, notes = with_splits(Path(copy.id), found, need_train=need_train)
    if moved := [f"{name} as {split}" for name, split in copy.splits.items() if name in loaded]:
        notes.append(f"Used {', '.join(moved)} of {copy.id}, as in the paper.")
    notes.append(f"Loaded {copy.id} with datasets{_revision_of(loaded, config.revision)}.")
    allowing = _allowing_images(config, copy.id)
    index = index_tables(_folder_of(files), files, allowing, notes, need_train=need_train)
    return replace(index, paper=PAPER.get(key or config.layout))


def _allowing_images(config: DataConfig, name: str) -> DataConfig:
    """Return the settings with the folder that paths in the Arrow files may lead to.

    `datasets` writes absolute paths of a local folder, or of files that it unpacked itself.
    """
    import datasets

    local = expand(name)
    base = local if local.is_dir() else Path(datasets.config.HF_DATASETS_CACHE)
    return config if config.image_root else replace(config, image_root=str(base.absolute()))


def _require_own_names(name: str, configuration: str, loaded: Mapping[str, Any]) -> None:
    """Raise if parquet files of a folder have other class names than `datasets` read them with.

    It reads all integers with the names of the first file, or of the folder's README.
    """
    folder = expand(name)
    if not folder.is_dir():
        return
    import datasets

    builder = datasets.load_dataset_builder(str(folder), configuration or None)
    paths = [path for some in (builder.config.data_files or {}).values() for path in some]
    features = next(iter(loaded.values())).features
    for path in sorted(path for path in paths if path.endswith(".parquet")):
        file = TableFile(path, Path(path).name, TRAIN)
        for column, kind in features.items():
            read = tuple(map(class_name_of, getattr(kind, "names", None) or ()))
            own = names_in(file, column)
            if read and own and read[: len(own)] != own:
                lists = both_lists(file.name, own, "datasets", read)
                raise DataError(
                    f"datasets reads the column {column!r} of {file.name} with other class names "
                    f"than those of the file: {lists}. Give the folder itself, {folder}, without "
                    "hub:, and each file is read with its own"
                )


def _folder_of(files: list[TableFile]) -> Path:
    """Return the base of relative image paths; Arrow files hold bytes or absolute paths."""
    return Path(files[0].path).parent if files else Path()


def _revision_of(loaded: Mapping[str, Any], asked: str) -> str:
    """Return the downloaded commit if `datasets` recorded it, else the one asked for."""
    for part in loaded.values():
        for address in part.info.download_checksums or {}:
            if found := _COMMIT.search(address):
                return f" at revision {found[1]}"
    return f" at revision {asked}" if asked else ""


def _load(name: str, configuration: str, revision: str) -> Mapping[str, Any]:
    import datasets

    try:
        loaded: Mapping[str, Any] = datasets.load_dataset(
            str(expand(name)),
            configuration or None,
            revision=revision or None,
            cache_dir=_cache_of(expand(name)),
            keep_in_memory=False,
        )
        return loaded
    except Exception as error:  # datasets, huggingface_hub and the network raise a dozen types
        raise DataError(_advice(name, configuration, revision, error)) from error


def _cache_of(folder: Path) -> str | None:
    """Return where `datasets` keeps what it makes of a local folder: a place for its content.

    It recognises the files of a folder by path and time, so other content of the same times would
    be read as what was there before. None = its own place, for what it downloads.
    """
    import datasets

    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if not any(part.startswith(".") for part in name.split("/")):
            digest.update(os.fsencode(f"{name}\0{file_sha256(path)}\0"))
    return str(Path(datasets.config.HF_DATASETS_CACHE, "by-content", digest.hexdigest()[:32]))


def _advice(name: str, configuration: str, revision: str, error: Exception) -> str:
    cause = f": {error.__cause__}" if error.__cause__ else ""
    reason = " ".join(f"{error}{cause}".split())[:300].rstrip(".") or type(error).__name__
    kinds = {kind.__name__ for kind in type(error).__mro__}
    start = f"data.path: cannot load the data set {name!r} from the Hub"
    text = reason.casefold()
    if "gated" in text:
        return (
            f"{start}: it is gated. Accept its terms at https://huggingface.co/datasets/{name}, "
            "then log in with: hf auth login (or set HF_TOKEN)"
        )
    if "revision" in text and revision:
        return f"{start} at data.revision {revision!r} ({reason}); empty data.revision = the newest"
    if kinds & {"ConnectionError", "ConnectError", "TimeoutException", "OfflineModeIsEnabled"}:
        return (
            f"{start}: it is not cached on this machine, and the Hub cannot be reached ({reason}). "
            "Download it on a machine with a network (hf download --repo-type dataset "
            f"{name} --local-dir DIR) and give the folder as data.path"
        )
    if "config" in text and ("pick one" in text or "not found" in text or "available" in text):
        asked = f" {configuration!r}" if configuration else ""
        return f"{start}: configuration{asked} ({reason}). Name one as hub:{name}:CONFIG"
    if "FileNotFoundError" in kinds:
        return (
            f"{start}: no such data set, or it is private ({reason}). Check the spelling "
            "(hub:ORGANISATION/NAME), or log in with: hf auth login"
        )
    if expand(name).is_dir():
        return f"{start}: {reason}. Give the folder itself, without hub:, to read its images"
    return f"{start}: {reason}. Check the name, hub:{name}, and the data set's page"
