"""Rows of results as tables: means, deviations, paired differences with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gendataagent.experiments.statistics import Difference, paired_difference, summarise

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One column: how it is called, and how many points or digits it is shown with.

    Args:
        percent: shown as a share in per cent, differences in points.
        brief: also in the table for a terminal, which has room for few.
    """

    key: str
    title: str
    percent: bool = True
    digits: int = 1
    brief: bool = False

    def text(self, value: float) -> str:
        """Return a value as it is shown; a dash for NaN."""
        if math.isnan(value):
            return "–"
        return f"{100 * value if self.percent else value:.{self.digits}f}"


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
    Measure(key="generated", title="generated", percent=False, digits=0, brief=True),
    Measure(key="kept", title="kept", percent=False, digits=0),
    Measure(key="optimizer_steps", title="steps", percent=False, digits=0),
    Measure(key="seconds", title="seconds", percent=False, digits=0, brief=True),
)
COMPARED = ("top1", "worst_class")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTable:
    """A table as text cells; the first row is the head."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return it as a Markdown table under its title."""
        lines = [
            f"| {' | '.join(self.head)} |",
            "|" + "---|" * len(self.head),
            *(f"| {' | '.join(row)} |" for row in self.rows),
        ]
        return f"**{self.title}**\n\n" + "\n".join(lines) + "\n"


def values_by_arm(rows: Iterable[Row], key: str) -> dict[str, dict[int, float]]:
    """Return arm -> seed -> value of a measure, arms in order of appearance."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        value = row.get(key)
        if isinstance(value, int | float):
            found.setdefault(row["arm"], {})[row["seed"]] = float(value)
    return found


def measures_table(
    rows: Sequence[Row], *, paper: Mapping[str, str] | None = None, brief: bool = False
) -> ResultTable:
    """Return the measures of every arm as mean ± standard deviation over its seeds.

    Args:
        paper: arm -> what the paper reports, for a last column.
        brief: only the measures a terminal has room for.
    """
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    columns = [(m, values_by_arm(rows, m.key)) for m in MEASURES if m.brief or not brief]
    columns = [(m, values) for m, values in columns if any(values.values())]
    lines = []
    for arm in arms:
        cells = [_mean_cell(measure, values.get(arm, {})) for measure, values in columns]
        seeds = sum(row["arm"] == arm for row in rows)
        lines.append((arm, str(seeds), *cells, *([(paper or {}).get(arm, "")] if paper else [])))
    head = ("arm", "seeds", *(m.title for m, _ in columns), *(["paper"] if paper else []))
    return ResultTable(title="Mean ± standard deviation", head=head, rows=tuple(lines))


def _mean_cell(measure: Measure, values: Mapping[int, float]) -> str:
    if not values:
        return ""
    summary = summarise(list(values.values()))
    if measure.key in ("generated", "kept", "optimizer_steps", "seconds"):
        return measure.text(summary.mean)
    return f"{measure.text(summary.mean)} ± {measure.text(summary.deviation)}"


def differences_table(rows: Sequence[Row], key: str, baselines: Sequence[str]) -> ResultTable:
    """Return each arm's paired difference to each baseline, with its 95 % interval.

    A star marks an interval that lies on one side of zero.
    """
    measure = next(m for m in MEASURES if m.key == key)
    values = values_by_arm(rows, key)
    present = [baseline for baseline in baselines if baseline in values]
    lines = [
        (arm, *(_difference_cell(measure, values[arm], values[b], arm == b) for b in present))
        for arm in values
    ]
    return ResultTable(
        title=f"{measure.title}: paired difference over shared seeds, with 95 % interval",
        head=("arm", *(f"minus {baseline}" for baseline in present)),
        rows=tuple(lines),
    )


def _difference_cell(
    measure: Measure, values: Mapping[int, float], baseline: Mapping[int, float], same: bool
) -> str:
    if same or not values.keys() & baseline.keys():
        return ""
    return difference_text(measure, paired_difference(values, baseline))


def difference_text(measure: Measure, difference: Difference) -> str:
    """Return "+1.2 [+0.3, +2.1] *": mean, interval, and a star if zero lies outside."""

    def signed(value: float) -> str:
        if math.isinf(value):
            return "?"
        return f"{100 * value if measure.percent else value:+.{measure.digits}f}"

    star = " *" if difference.is_above_zero or difference.is_below_zero else ""
    interval = f"[{signed(difference.low)}, {signed(difference.high)}]"
    return f"{signed(difference.mean)} {interval}{star}"
