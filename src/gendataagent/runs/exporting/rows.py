"""The images of an exported data set, one row each, encoded when they are written."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gendataagent.agent.columns import HISTORY_TYPES
from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.core.errors import RunFolderError
from gendataagent.data import ImageSplits, LabelledImages
from gendataagent.data.decoding.shareable import PNG, ImageFile, is_jpeg, shareable
from gendataagent.data.index import TRAIN
from gendataagent.data.synthetic_marks import SYNTHETIC

REAL = "real"
_NOT_EXPORTED = ("id", "class_name", "rejected_by")  # every image that is exported was kept
HISTORY: Mapping[str, str] = {k: v for k, v in HISTORY_TYPES.items() if k not in _NOT_EXPORTED}
"""Column of how a synthetic image was made -> Arrow type; null for a real one."""
COLUMNS: Mapping[str, str] = {
    "class_name": "string",
    "source": "string",
    "id": "string",
    **HISTORY,
}
"""Column beside image, label and split -> Arrow type."""

_THREADS = 4
_AHEAD = 64  # images encoded before they are written


class Reader(Protocol):
    """Where the image of a row is."""

    def __call__(self) -> ImageFile:
        """Return the encoded image."""
        ...

    def is_jpeg(self) -> bool:
        """Return whether the image is stored as JPEG, without decoding it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image.

    Args:
        name: of its file, without suffix: ASCII, and unique in the export.
        values: by the keys of `COLUMNS`.
        read: returns the encoded image.
    """

    split: str
    name: str
    label: int
    values: Mapping[str, Any]
    read: Reader = field(repr=False)


def real_rows(splits: ImageSplits) -> list[Row]:
    """Return a row for each real image of a run, split by split."""
    rows: list[Row] = []
    for split, images in splits.by_name().items():
        for index, (id_, label) in enumerate(zip(images.ids, images.labels, strict=True)):
            values = {"class_name": images.class_names[label], "source": REAL, "id": id_}
            rows.append(
                Row(
                    split=split,
                    name=f"real-{len(rows):06d}",
                    label=label,
                    values=dict.fromkeys(COLUMNS) | values,
                    read=_Real(images, index),
                )
            )
    return rows


def synthetic_rows(made: SyntheticImages) -> list[Row]:
    """Return a row for each kept synthetic image; all of them are training images."""
    rows = []
    for candidate, path in zip(made.candidates, made.paths, strict=True):
        history = candidate.to_json()
        values = {
            "class_name": made.class_names[candidate.label],
            "source": SYNTHETIC,
            "id": candidate.id,
            **{name: history[name] for name in HISTORY},
        }
        rows.append(
            Row(
                split=TRAIN,
                name=candidate.id,
                label=candidate.label,
                values=values,
                read=_Synthetic(path),
            )
        )
    return rows


def encoded(rows: Iterable[Row]) -> Iterator[tuple[Row, ImageFile]]:
    """Yield each row with its encoded image, in order; a few are encoded ahead, in threads."""
    waiting = iter(rows)
    with ThreadPoolExecutor(_THREADS) as threads:
        while batch := list(itertools.islice(waiting, _AHEAD)):
            yield from zip(batch, threads.map(lambda row: row.read(), batch), strict=True)


def by_split(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return split -> its rows, without empty splits."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.split, []).append(row)
    return found


@dataclass(frozen=True, slots=True)
class _Real:
    """A real image, without metadata."""

    images: LabelledImages
    index: int

    def __call__(self) -> ImageFile:
        return shareable(self.images.encoded(self.index), self.images.image(self.index))

    def is_jpeg(self) -> bool:
        return is_jpeg(self.images.encoded(self.index))


@dataclass(frozen=True, slots=True)
class _Synthetic:
    """A PNG of the pool, with its provenance inside."""

    path: Path

    def __call__(self) -> ImageFile:
        try:
            return ImageFile(self.path.read_bytes(), PNG)
        except OSError as error:
            raise RunFolderError(
                f"the synthetic image {self.path} cannot be read: {error.strerror or error}. Put "
                "it back from a copy, or start a new run with the same settings"
            ) from error

    def is_jpeg(self) -> bool:
        return False
