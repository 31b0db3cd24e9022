"""WebDataset: tar files read from start to end, for training from a network disk or a bucket.

Of each image: the image, `.cls` (the number of its class, which readers expect) and `.json` (the
class by name, source, id, and as the text `history` all that a synthetic image was made with).
`classes.json` names the numbers. Readers need one type of image, so a set with any JPEG becomes
JPEG: other images are encoded at high quality, synthetic ones with their provenance as a comment.
"""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from gendataagent.agent.provenance import read_provenance
from gendataagent.core import files
from gendataagent.data.decoding.shareable import JPEG, PNG, ImageFile, as_jpeg
from gendataagent.runs.exporting.rows import HISTORY, Row, by_split, encoded

CLASSES_FILE = "classes.json"
_SHARD_BYTES, _SHARD_ROWS = 500 << 20, 10_000


def write(
    folder: Path, rows: Sequence[Row], class_names: Sequence[str], on_row: Callable[[], None]
) -> None:
    """Write `SPLIT-000000.tar`; a new file every 500 MiB or 10,000 images."""
    suffix = JPEG if any(row.read.is_jpeg() for row in rows) else PNG
    files.write_json(folder / CLASSES_FILE, list(class_names))
    for split, own in by_split(rows).items():
        images = encoded(own)
        for number in itertools.count():
            first = next(images, None)
            if first is None:
                break
            with tarfile.open(folder / f"{split}-{number:06d}.tar", "w") as archive:
                _fill(archive, itertools.chain([first], images), suffix, on_row)


def _fill(
    archive: tarfile.TarFile,
    images: Iterator[tuple[Row, ImageFile]],
    suffix: str,
    on_row: Callable[[], None],
) -> None:
    """Write images to one shard, until it is full or there are no more."""
    size = count = 0
    for row, image in images:
        if image.suffix != suffix:
            image = _as_jpeg(image)
        for ending, content in (
            (suffix, image.content),
            (".cls", str(row.label).encode()),
            (".json", json.dumps(_about(row)).encode()),
        ):
            entry = tarfile.TarInfo(f"{row.name}{ending}")  # dated 1970, so that it is reproducible
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        on_row()
        size, count = size + len(image.content), count + 1
        if size >= _SHARD_BYTES or count >= _SHARD_ROWS:
            return


def _about(row: Row) -> dict[str, object]:
    """Return the `.json` of an image; each key has one type in all images.

    Readers take the types of a whole set from its first images, which are real: a null there would
    leave no room for a number later.
    """
    made = {name: row.values[name] for name in HISTORY if row.values[name] is not None}
    return {
        "label": row.values["class_name"],
        "class_number": row.label,
        "source": row.values["source"],
        "id": row.values["id"],
        "source_id": made.get("source_id", ""),
        "prompt": made.get("prompt", ""),
        "generator": made.get("generator", ""),
        "history": json.dumps(made),
    }


def _as_jpeg(image: ImageFile) -> ImageFile:
    with Image.open(io.BytesIO(image.content)) as opened:
        provenance = read_provenance(opened)
        return as_jpeg(opened.convert("RGB"), json.dumps(provenance) if provenance else "")
