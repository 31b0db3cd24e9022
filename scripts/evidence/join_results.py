"""Join the results of several folders of one experiment, and write its page.

    python join_results.py EXPERIMENT OUT... --to docs/results/FOLDER

Each folder has a results.parquet, as `gendataagent experiment` and this script write it;
FOLDER:ARM,ARM takes these arms alone from it. A run of the same arm and seed counts once, the
first. Only seeds that every arm has are kept, so that all differences are paired; the others are
named. Of paths the last name is kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from gendataagent.experiments.catalogue import find_benchmark
from gendataagent.experiments.measures import read_rows, write_rows
from gendataagent.experiments.tables import seeds_by_arm
from gendataagent.experiments.writing import write_results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", help="a name that `gendataagent experiment` lists")
    parser.add_argument("folders", nargs="+", metavar="FOLDER[:ARM,ARM]")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--arms", help="comma-separated; all that occur if left out")
    arguments = parser.parse_args()
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for given in arguments.folders:
        folder, _, names = given.partition(":")
        for row in read_rows(Path(folder) / "results.parquet"):
            if not names or row["arm"] in names.split(","):
                rows.setdefault((row["arm"], row["seed"]), _without_paths(row))
    found = seeds_by_arm(rows.values())
    arms = arguments.arms.split(",") if arguments.arms else list(found)
    complete = set.intersection(*(found.get(arm, set()) for arm in arms))
    left_out = sorted(set.union(*(found.get(arm, set()) for arm in arms)) - complete)
    kept = [rows[arm, seed] for arm in arms for seed in sorted(complete)]
    print(f"{len(complete)} seeds in all of {', '.join(arms)}; incomplete, left out: {left_out}")
    if arguments.to.exists():
        shutil.rmtree(arguments.to)
    arguments.to.mkdir(parents=True)
    write_rows(kept, arguments.to / "results.parquet")
    write_results(kept, arguments.to, benchmark=find_benchmark(arguments.benchmark).with_arms(arms))
    (arguments.to / "results.html").unlink()  # the plots stand beside the page in docs


def _without_paths(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose absolute paths, of the machine that it was made on, are names."""
    settings = json.loads(row.get("settings") or "{}")
    short = {key: _name(value) for key, value in settings.items()}
    return row | {"data": _name(row.get("data")), "settings": json.dumps(short)}


def _name(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


if __name__ == "__main__":
    main()
