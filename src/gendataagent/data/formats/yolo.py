"""YOLO's boxes, images/ beside labels/*.txt: recognised, so that they are not taken for classes."""

from __future__ import annotations

import os
from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.data.formats.walk import Found


def refuse_yolo(root: Path, found: Found) -> None:
    """Raise `DataError` if all images are in folders images/, and labels/ has a text of each name.

    That of `images/train/1.jpg` is `labels/train/1.txt`, of `train/images/1.jpg`
    `train/labels/1.txt`.
    """
    texts = {name for name in found.others if name.endswith(".txt")}
    boxed = 0
    for image in found.images:
        folders = os.path.dirname(image).split(os.sep)
        if "images" not in folders:
            return
        folders[folders.index("images")] = "labels"
        stem = os.path.splitext(os.path.basename(image))[0]
        boxed += os.path.join(*folders, f"{stem}.txt") in texts
    if boxed:
        raise DataError(
            f"{root} holds images/ and labels/*.txt, as YOLO has boxes, which are not read. Export "
            "the data as COCO or Pascal VOC (each box becomes an image), or make one folder per "
            "class. data.layout=folder reads the folders as they are"
        )
