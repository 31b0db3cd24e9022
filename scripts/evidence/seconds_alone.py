"""Add `seconds_alone` to the results of an experiment: what each run costs on its own.

    python seconds_alone.py fewshot-cifar10 --out OUT

Runs share images and warm-up training, so their own clock understates later ones. This is
the cost model of `time_costs`: unit costs, medians over the runs in OUT, times counts. Rewrites
OUT/results.parquet, .md, .html and the plots.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from time_costs import Timed, arm_cost, caption_prices, image_kind, image_prices, read_timed

from gendataagent.experiments import find_benchmark, read_rows
from gendataagent.experiments.experiment import RESULTS_FILE
from gendataagent.experiments.measures import write_rows
from gendataagent.experiments.writing import write_results

KEY = "seconds_alone"


def with_seconds_alone(rows: Sequence[Mapping[str, Any]], out: Path) -> list[dict[str, Any]]:
    """Return the rows of an experiment with `seconds_alone`, the same for all seeds of an arm.

    Loading data and evaluation are left out. Rows of an arm stay without the key if one of its runs
    is not in `out` or a unit cost was never measured.
    """
    folders = sorted(path.parent for path in (out / "runs").glob("*/manifest.json"))
    runs = {folder.name: read_timed(folder) for folder in folders}
    images, captions = image_prices(runs.values()), caption_prices(runs.values())
    costs = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        names = [row["run"] for row in rows if row["arm"] == arm and "run" in row]
        own = [runs[name] for name in names if name in runs]
        if own and len(own) == len(names) and _have_prices(own, images, captions):
            costs[arm] = arm_cost(own, images=images, captions=captions)
    return [
        {**row, KEY: costs[row["arm"]].seconds(row["optimizer_steps"])}
        if row["arm"] in costs
        else dict(row)
        for row in rows
    ]


def _have_prices(
    runs: Sequence[Timed], images: Mapping[str, float], captions: Mapping[str, float]
) -> bool:
    """Return whether steps, images and captions of these runs were timed in any run."""
    config = runs[0].config
    draws = any(record.made for run in runs for record in run.rounds)
    captioned = any(run.captions for run in runs)
    return (
        any(run.steps for run in runs)
        and (not draws or image_kind(config) in images)
        and (not captioned or config.prompting.captioner in captions)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="benchmark, as of `gendataagent experiment`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment")
    arguments = parser.parse_args()
    rows = with_seconds_alone(read_rows(arguments.out / RESULTS_FILE), arguments.out)
    write_rows(rows, arguments.out / RESULTS_FILE)
    print(write_results(rows, arguments.out, benchmark=find_benchmark(arguments.name)))


if __name__ == "__main__":
    main()
