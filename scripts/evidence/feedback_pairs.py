"""Draw images of a run with feedback above each other: without it, and with it, from the same seed.

    python feedback_pairs.py RUN TO.png [--columns 12] [--side 96]

RUN is a run folder with feedback; each of its steered rounds gives two rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("to", type=Path)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--side", type=int, default=96, help="of each image, in px")
    arguments = parser.parse_args()
    rows: list[list[Path]] = []
    for path in sorted(arguments.run.glob("rounds/*/feedback.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if not record["scale"]:
            continue
        names = [f"{id_}.png" for id_ in record["candidates"][: arguments.columns]]
        rows.append([path.parent / "plain" / name for name in names])
        rows.append([arguments.run / "pool" / path.parent.name / name for name in names])
        print(
            f"round {path.parent.name}: {record['criterion']} {record['scale']:g}, p(true class) "
            + ", ".join(f"{p['mean_p']:.2f} at {p['scale']:g}" for p in record["probes"])
        )
    side = arguments.side
    drawn = Image.new("RGB", (side * arguments.columns, side * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, file in enumerate(row):
            with Image.open(file) as image:
                large = image.convert("RGB").resize((side, side), Image.Resampling.NEAREST)
            drawn.paste(large, (x * side, y * side))
    drawn.save(arguments.to)


if __name__ == "__main__":
    main()
