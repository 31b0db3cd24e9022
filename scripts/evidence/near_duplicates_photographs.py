"""Near-duplicates among photographs: which copies are found, and what is found that is none.

    python scripts/evidence/near_duplicates_photographs.py FOLDER [NAME ...]

FOLDER has photographs of different things, such as `skimage/data` of the package scikit-image; NAME
picks some by name. Each is cut into sixteen pieces that do not overlap: a pair of them is no copy.
Then copies of the photographs, and of the pieces, are compared with all of them.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gendataagent.data.duplicates.near_duplicates import References
from gendataagent.data.duplicates.sketches import SKETCH, Sketches, sketch

ACROSS = 4
QUALITY = 30
DEGREES = 8


def main() -> None:
    """Print, for photographs and their pieces, what is found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    files = [path for path in sorted(options.folder.iterdir())
             if path.stem in options.names or (not options.names and path.is_file())]  # fmt: skip
    photographs = [Image.open(path).convert("RGB") for path in files]
    pieces = [piece for photograph in photographs for piece in _pieces(photograph)]
    found = References(_sketches(pieces[1::2])).near_duplicates(_sketches(pieces[::2]))
    print(f"{len(pieces)} pieces of {len(files)} photographs: {len(found)} pairs, none a copy")
    for what, images in (("photographs", photographs), ("pieces", pieces)):
        for how, change in COPIES.items():
            matches = References(_sketches(images)).near_duplicates(
                _sketches(list(map(change, images)))
            )
            right = {match.row for match in matches if match.row == match.reference}
            wrong = {match.row for match in matches} - right
            print(f"{what}, {how}: {len(right)} of {len(images)} found, {len(wrong)} as another's")


def _sketches(images: Sequence[Image.Image]) -> Sketches:
    return np.array([sketch(image) for image in images], dtype=SKETCH)


def _pieces(image: Image.Image) -> list[Image.Image]:
    width, height = image.width // ACROSS, image.height // ACROSS
    corners = [(x * width, y * height) for y in range(ACROSS) for x in range(ACROSS)]
    return [image.crop((x, y, x + width, y + height)) for x, y in corners]


def _recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return Image.open(buffer).convert("RGB")


def _mirrored(image: Image.Image) -> Image.Image:
    small = image.resize((max(1, image.width // 2), max(1, image.height // 2)))
    return small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _cropped(image: Image.Image) -> Image.Image:
    width, height = image.width // 8, image.height // 8
    return image.crop((width, height, image.width - width, image.height - height))


def _turned(image: Image.Image) -> Image.Image:
    return _cropped(image.rotate(DEGREES, Image.Resampling.BICUBIC))


COPIES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": _recompressed,
    "mirrored at half the size": _mirrored,
    "cropped to three quarters": _cropped,
    "turned by 8 degrees and cropped": _turned,
}


if __name__ == "__main__":
    main()
