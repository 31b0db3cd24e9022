"""Rows of results as tables: means, deviations, paired differences with 95 % intervals."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gendataagent.experiments.statistics import Difference, paired_difference, summarise
from gendataagent.report.markup import MINUS

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One column of the tables.

    Args:
        key: of the rows.
        percent: a share, shown in per cent, its differences in points.
        digits: after the decimal point.
        brief: also in the table for a terminal, which has room for few.
    """

    key: str
    title: str
    percent: bool = True
    digits: int = 1
    brief: bool = False

    @property
    def name(self) -> str:
        """The title without its unit, capitalised: "Top-1" of "top-1 %"."""
        title = self.title.removesuffix(" %")
        return title[:1].upper() + title[1:]

    @property
    def unit(self) -> str:
        """Unit after a value in a sentence."""
        return " %" if self.percent else ""

    @property
    def scale(self) -> int:
        """Factor from a value in the rows to the value shown."""
        return 100 if self.percent else 1

    def text(self, value: float) -> str:
        """Return a value as shown; a dash for NaN."""
        return "–" if math.isnan(value) else f"{self.scale * value:.{self.digits}f}"


MEASURES = (
    Measure(key="top1", title="top-1 %", brief=True),
    Measure(key="worst_class", title="worst class %", brief=True),
    Measure(key="disparity", title="disparity", percent=False, digits=3, brief=True),
    Measure(key="gap", title="train-val gap"),
    Measure(key="ece", title="ECE %"),
    Measure(key="gaussian_blur_1", title="blur 1 %"),
    Measure(key="gaussian_blur_3", title="blur 3 %"),
    Measure(key="speckle_noise_1", title="speckle 1 %"),
    Measure(key="speckle_noise_3", title="speckle 3 %"),
    Measure(key="memorisation_without_source", title="memorisation", percent=False, digits=2),
    Measure(key="memorisation_control", title="its control", percent=False, digits=2),
    Measure(key="precision", title="precision %"),
    Measure(key="recall", title="recall %"),
    Measure(key="density", title="density", percent=False, digits=2),
    Measure(key="coverage", title="coverage %"),
    Measure(key="source_distance", title="distance to source", percent=False, digits=2),
    Measure(key="generated", title="generated", percent=False, digits=0, brief=True),
    Measure(key="kept", title="kept", percent=False, digits=0),
    Measure(key="optimizer_steps", title="steps", percent=False, digits=0),
    Measure(key="seconds", title="seconds", percent=False, digits=0, brief=True),
    Measure(key="seconds_alone", title="seconds alone", percent=False, digits=0),
)
CLASSES_SHOWN = 60
COMPARED = ("top1", "worst_class")
# Shown without their deviation.
COUNTS = ("generated", "kept", "optimizer_steps", "seconds", "seconds_alone")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTable:
    """A table of text; the first cell of a row is its heading."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return it as Markdown, below its title."""
        head, *rows = (list(map(_markdown_cell, row)) for row in (self.head, *self.rows))
        lines = [
            f"| {' | '.join(head)} |",
            "|" + "---|" * len(head),
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
        return f"**{self.title}**\n\n" + "\n".join(lines) + "\n"


def _markdown_cell(text: str) -> str:
    """Return a cell with what would end it or begin HTML escaped."""
    return text.replace("|", r"\|").replace("<", "&lt;")


def values_by_arm(rows: Iterable[Row], key: str) -> dict[str, dict[int, float]]:
    """Return arm -> seed -> value of a measure, arms in order of appearance.

    Values that are missing or not finite are left out, and their seeds with them.
    """
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        value = row.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            found.setdefault(row["arm"], {})[row["seed"]] = float(value)
    return found


def measures_table(
    rows: Sequence[Row], *, paper: Mapping[str, str] | None = None, brief: bool = False
) -> ResultTable:
    """Return the measures of every arm as mean ± standard deviation over its seeds.

    Args:
        paper: arm -> what the paper reports, for a last column.
        brief: only the measures that fit a terminal.
    """
    seeds = seeds_by_arm(rows)
    columns = [(m, values_by_arm(rows, m.key)) for m in MEASURES if m.brief or not brief]
    columns = [(m, values) for m, values in columns if any(values.values())]
    lines = []
    for arm, of_arm in seeds.items():
        cells = [_mean_cell(m, values.get(arm, {}), len(of_arm)) for m, values in columns]
        reported = [(paper or {}).get(arm, "")] if paper else []
        lines.append((arm, str(len(of_arm)), *cells, *reported))
    head = ("arm", "seeds", *(m.title for m, _ in columns), *(["paper"] if paper else []))
    return ResultTable(title="Mean ± standard deviation over seeds", head=head, rows=tuple(lines))


def seeds_by_arm(rows: Iterable[Row]) -> dict[str, set[int]]:
    """Return arm -> its seeds, arms in order of appearance."""
    found: dict[str, set[int]] = {}
    for row in rows:
        found.setdefault(row["arm"], set()).add(row["seed"])
    return found


def _mean_cell(measure: Measure, values: Mapping[int, float], seeds: int) -> str:
    """Return "46.0 ± 1.4", or "46.0 ± 1.4 (n 2)" for fewer values than the row has seeds."""
    if not values:
        return ""
    summary = summarise(list(values.values()))
    text = measure.text(summary.mean)
    if measure.key not in COUNTS and summary.count > 1:
        text += f" ± {measure.text(summary.deviation)}"
    return text if summary.count == seeds else f"{text} (n {summary.count})"


def differences_table(rows: Sequence[Row], key: str, baselines: Sequence[str]) -> ResultTable:
    """Return each arm's paired difference to each baseline, with its 95 % interval.

    A star marks an interval that excludes zero; "(n 2)" a difference over fewer seeds than the arm
    has.
    """
    measure = measure_of(key)
    values = values_by_arm(rows, key)
    present = [baseline for baseline in baselines if baseline in values]
    lines = [
        (
            arm,
            str(len(own)),
            *("" if arm == b else _difference_cell(measure, own, values[b]) for b in present),
        )
        for arm, own in values.items()
    ]
    return ResultTable(
        title=f"{measure.title}: paired difference over shared seeds, with 95 % interval",
        head=("arm", "seeds", *(f"minus {baseline}" for baseline in present)),
        rows=tuple(lines),
    )


def classes_table(rows: Sequence[Row], baseline: str) -> ResultTable | None:
    """Return the accuracy of each class by arm, with its paired difference to the baseline.

    None if no row knows its classes, or they are more than `CLASSES_SHOWN`.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.get("per_class") or {}))
    if not names or len(names) > CLASSES_SHOWN:
        return None
    arms = list(seeds_by_arm(rows))
    measure = Measure(key="", title="accuracy %")
    lines = []
    for class_name in names:
        flat = [{**row, "": (row.get("per_class") or {}).get(class_name)} for row in rows]
        values = values_by_arm(flat, "")
        cells = []
        for arm in arms:
            cell = _mean_cell(measure, values.get(arm, {}), len(values.get(arm, {})))
            if arm != baseline and values.get(arm) and values.get(baseline):
                cell += f"; {_difference_cell(measure, values[arm], values[baseline])}"
            cells.append(cell)
        lines.append((class_name, *cells))
    return ResultTable(
        title=f"Accuracy of each class in %, and its paired difference to {baseline}",
        head=("class", *arms),
        rows=tuple(lines),
    )


def settings_table(rows: Sequence[Row]) -> ResultTable | None:
    """Return the settings in which the arms differ, None if there are none or they are unknown."""
    known = {row["arm"]: json.loads(row["settings"]) for row in rows if row.get("settings")}
    if len(known) < 2:
        return None
    keys = dict.fromkeys(key for settings in known.values() for key in settings)
    lines = []
    for key in keys:
        shown = [
            json.dumps(settings[key]) if key in settings else "–" for settings in known.values()
        ]
        if len(set(shown)) > 1:
            lines.append((key, *shown))
    if not lines:
        return None
    return ResultTable(
        title="Settings in which the arms differ", head=("setting", *known), rows=tuple(lines)
    )


def measure_of(key: str) -> Measure:
    """Return the measure of a key of the rows."""
    return next(measure for measure in MEASURES if measure.key == key)


def _difference_cell(
    measure: Measure, values: Mapping[int, float], baseline: Mapping[int, float]
) -> str:
    if not values.keys() & baseline.keys():
        return "no shared seed"
    difference = paired_difference(values, baseline)
    text = difference_text(measure, difference)
    return text if difference.count in (1, len(values)) else f"{text} (n {difference.count})"


def difference_text(measure: Measure, difference: Difference) -> str:
    """Return "+1.2 [+0.3, +2.1] *": mean, interval, and a star if the interval excludes zero."""

    def signed(value: float) -> str:
        return f"{measure.scale * value:+.{measure.digits}f}"

    if difference.count == 1:
        return f"{signed(difference.mean)} (n 1, no interval)"
    star = " *" if difference.excludes_zero else ""
    interval = f"[{signed(difference.low)}, {signed(difference.high)}]"
    return f"{signed(difference.mean)} {interval}{star}"


def typographic(content: str) -> str:
    """Return a text whose negative numbers have a real minus sign; hyphens in names stay."""
    return re.sub(r"(?:(?<=[ [(])|^)-(?=\d)", MINUS, content)
