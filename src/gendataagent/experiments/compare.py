"""Rows of any finished runs, single ones or an experiment's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gendataagent.core.errors import ConfigError
from gendataagent.core.inside import refuse_ways_out
from gendataagent.experiments.experiment import RESULTS_FILE
from gendataagent.experiments.measures import read_rows, rows_of_runs

Rows = list[dict[str, Any]]


def rows_to_compare(folders: Sequence[Path]) -> Rows:
    """Return a row for each finished run, in the order of the folders.

    A folder is that of a run, or of an experiment (it holds results.parquet), whose arms keep their
    names. If several experiments have an arm of the same name, the folder's name is appended: their
    settings may differ, so they are not merged.

    Raises:
        RunFolderError: a folder is neither, or its run is not finished.
        ConfigError: two runs have the same settings and seed, or were measured on different data.
    """
    folders = list(dict.fromkeys(folders))
    single = [folder for folder in folders if not (folder / RESULTS_FILE).is_file()]
    sources: dict[Path, Rows] = {}
    for folder in folders:
        if folder not in single:
            refuse_ways_out(folder)
            sources[folder] = read_rows(folder / RESULTS_FILE)
        elif folder == single[0]:
            sources[folder] = rows_of_runs(single)
    rows = _with_distinct_names(sources)
    twice = [of for of, n in Counter((row["arm"], row["seed"]) for row in rows).items() if n > 1]
    if twice:
        runs = [row["run"] for row in rows if (row["arm"], row["seed"]) == twice[0]]
        raise ConfigError(
            f"the runs {' and '.join(runs)} have the same settings and seed {twice[0][1]}; give "
            "only one of them"
        )
    check_same_data(rows)
    return rows


def check_same_data(rows: Rows) -> None:
    """Raise `ConfigError` unless all runs have the same classes, and those of a seed the same test
    images; another seed may draw another test split.
    """
    _check_same(rows, "classes", "classes")
    for seed in dict.fromkeys(row["seed"] for row in rows):
        _check_same([row for row in rows if row["seed"] == seed], "test_images", "test images")


def _check_same(rows: Rows, key: str, what: str) -> None:
    known = [row for row in rows if row.get(key)]
    other = next((row for row in known if row[key] != known[0][key]), None)
    if other is not None:
        one = known[0]
        raise ConfigError(
            f"the runs {one['run']} and {other['run']} have different {what} ({one['data']} and "
            f"{other['data']}), so their figures cannot be compared; give runs on the same data"
        )


def _with_distinct_names(sources: dict[Path, Rows]) -> Rows:
    """Return all rows, with the folder appended to arms of the same name in several sources."""
    owners = Counter(arm for rows in sources.values() for arm in {row["arm"] for row in rows})
    short = Counter(folder.name for folder in sources)
    return [
        {**row, "arm": f"{row['arm']} ({_short(folder, short)})"} if owners[row["arm"]] > 1 else row
        for folder, rows in sources.items()
        for row in rows
    ]


def _short(folder: Path, names: Counter[str]) -> str:
    return folder.name if names[folder.name] == 1 else str(folder)
