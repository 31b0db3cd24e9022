"""COCO: annotations/SPLIT.json beside the images; the box of each image is the whole image."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from gendataagent.core import files
from gendataagent.runs.exporting.place import MADE_BY
from gendataagent.runs.exporting.rows import Row, by_split, encoded


def write(
    folder: Path, rows: Sequence[Row], class_names: Sequence[str], on_row: Callable[[], None]
) -> None:
    """Write image files by split, and their annotations."""
    # 0 stands for the background in some readers
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]
    for split, own in by_split(rows).items():
        images, annotations = [], []
        (folder / split).mkdir()
        for number, (row, image) in enumerate(encoded(own), start=1):
            name = f"{row.name}{image.suffix}"
            (folder / split / name).write_bytes(image.content)
            width, height = size_of(image.content)
            known = {key: value for key, value in row.values.items() if value is not None}
            known["original_id"] = known.pop("id")
            images.append(
                {**known, "id": number, "file_name": name, "width": width, "height": height}
            )
            annotations.append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": row.label + 1,
                    "bbox": [0, 0, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
            on_row()
        content = {
            "info": {"description": f"{split} images, exported by {MADE_BY}"},
            "licenses": [],
            "categories": categories,
            "images": images,
            "annotations": annotations,
        }
        files.write_json(folder / "annotations" / f"{split}.json", content)


def size_of(content: bytes) -> tuple[int, int]:
    """Return width and height in px of an upright image, as readers see it."""
    with Image.open(io.BytesIO(content)) as image:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return image.size[::-1] if turned else image.size
