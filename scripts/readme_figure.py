"""Draw the figure of the README from a finished run: hard images, rewritten captions, new images.

The run is one of the paper's loop (`gendataagent run --preset demo`): its filter drops images.

    python scripts/readme_figure.py runs/001 docs/images/demo-round.png

Takes the last round. Of each class, the hardest source whose new images were not all kept is a
candidate; the `--rows` hardest of them are drawn, so nothing is chosen by eye.
"""

from __future__ import annotations

import argparse
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

CAPTION_WIDTH = 30
REASONS = {None: "kept", "vog": "dropped by the VoG filter"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=3)
    arguments = parser.parse_args()
    folder = sorted((arguments.run / "rounds").glob("*"))[-1]
    rows = pick(read(folder / "judged.parquet"), arguments.rows)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    draw(rows, arguments.run, folder).savefig(arguments.out, dpi=110)


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def pick(candidates: list[dict[str, Any]], rows: int) -> list[list[dict[str, Any]]]:
    """Return the candidates of each chosen source, hardest source first."""
    by_source = defaultdict(list)
    for candidate in candidates:
        by_source[candidate["source_id"]].append(candidate)
    mixed = [
        group
        for group in by_source.values()
        if any(c["rejected_by"] is None for c in group)
        and any(c["rejected_by"] == "vog" for c in group)
    ]
    mixed.sort(key=lambda group: group[0]["marginal_score"])
    of_class: dict[str, list[dict[str, Any]]] = {}
    for group in mixed:
        of_class.setdefault(group[0]["class_name"], group)
    return list(of_class.values())[:rows]


def draw(rows: list[list[dict[str, Any]]], run: Path, folder: Path) -> Figure:
    columns = 1 + max(map(len, rows))
    figure = Figure(figsize=(2.6 * columns, 2.75 * len(rows) + 0.2), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for line, group in zip(axes, rows, strict=True):
        first = group[0]
        source = folder / "sources" / f"{first['id'].split('-')[1]}.png"
        title = f"hard: {first['class_name']}, p = {first['marginal_score']:.3f}"
        show(line[0], source, title, first["source_caption"], "#333333")
        for axis, candidate in zip(line[1:], group, strict=False):
            verdict = candidate["rejected_by"]
            colour = "#1a7f37" if verdict is None else "#b42318"
            image = run / "pool" / folder.name / f"{candidate['id']}.png"
            show(axis, image, REASONS.get(verdict, verdict), candidate["caption"], colour)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.94, bottom=0.13, wspace=0.1, hspace=0.75)
    return figure


def show(axis: Any, path: Path, title: str, caption: str, colour: str) -> None:
    with Image.open(path) as image:
        axis.imshow(image.convert("RGB"), interpolation="nearest")
    axis.set_title(title, fontsize=9, color=colour, fontweight="bold")
    words = "\n".join(textwrap.wrap(caption, CAPTION_WIDTH))
    axis.text(0.5, -0.04, words, transform=axis.transAxes, ha="center", va="top", fontsize=7.5)


if __name__ == "__main__":
    main()
