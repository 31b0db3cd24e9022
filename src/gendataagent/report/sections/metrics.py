"""Accuracy per class, training curves and time, as charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from gendataagent.core.records import EpochMetrics
from gendataagent.report.charts import Line, change_track, line_chart, stacked_bar
from gendataagent.report.markup import (
    count,
    duration,
    esc,
    name,
    percent,
    points,
    section,
)
from gendataagent.report.run_view import RunView
from gendataagent.runs.paired import PairedTest, compare_right

CLASSES_SHOWN = 60

_TESTED = (
    " The small figures are the 95 % interval of the difference, from the class's own test images. "
    "A difference is coloured where it is beyond chance by McNemar's test at 5 %, not corrected "
    "for the number of classes."
)
_SCALE = (
    '<li class="scale" aria-hidden="true"><span>0 %</span><span>50 %</span><span>100 %</span></li>'
)


def per_class(run: RunView) -> str:
    """Return the accuracy of each class without and with the agent, sorted by change."""
    final = run.final
    if final is None or not final.per_class:
        return ""
    before = run.before
    if before is not None and before.split != final.split:
        before = None
    rows = [
        (label, before.per_class.get(label) if before else None, after)
        for label, after in final.per_class.items()
    ]
    if before is None:
        rows.sort(key=lambda row: (row[2], row[0]))
    else:
        rows.sort(key=lambda row: (-(row[2] - row[1]) if row[1] is not None else 0.0, row[0]))
    hidden = len(rows) - CLASSES_SHOWN
    if hidden > 0:
        rows = rows[: CLASSES_SHOWN // 2] + rows[-CLASSES_SHOWN // 2 :]
    tests = _tests(run, run.baseline) if before is not None and final.split == "test" else {}
    items = "".join(_class_row(*row, tests.get(row[0])) for row in rows)
    more = (
        f'<p class="quiet">{count(hidden)} classes in the middle are not shown.</p>'
        if hidden > 0
        else ""
    )
    legend = f'<li><span class="swatch agent"></span>{run.called}</li>'
    if before is not None:
        legend = f'<li><span class="swatch real"></span>real only</li>{legend}'
    order = "largest gain first" if before is not None else "lowest first"
    return section(
        "classes",
        "Accuracy per class",
        f'<ul class="legend">{legend}</ul><ul class="bars class-rows">{items}{_SCALE}</ul>{more}',
        lead=f"Accuracy on {esc(final.split)}, {order}.{_TESTED if tests else ''}",
    )


def _tests(run: RunView, baseline: RunView | None) -> Mapping[str, PairedTest]:
    """Return class name -> comparison of the two classifiers on its test images."""
    if baseline is None or run.predictions.keys() != baseline.predictions.keys():
        return {}
    of_class: dict[int, list[str]] = defaultdict(list)
    for id_, (label, _) in run.predictions.items():
        of_class[label].append(id_)
    right, without = run.right, baseline.right
    found = {
        run.class_name(label): compare_right(
            {id_: right[id_] for id_ in ids}, {id_: without[id_] for id_ in ids}
        )
        for label, ids in of_class.items()
    }
    return {name: test for name, test in found.items() if test is not None}


def _class_row(label: str, before: float | None, after: float, test: PairedTest | None) -> str:
    sure = test is None or test.beyond_chance
    if before is None:
        figures = f"<b>{percent(after)}</b>"
    else:
        change = after - before
        css = "" if not sure else "up-word" if change > 0 else "down-word" if change < 0 else ""
        figures = (
            f'{percent(before)} → <b>{percent(after)}</b> <em class="{css}">{points(change)}</em>'
        )
        if test is not None:
            figures += f' <span class="interval">{points(test.low)} to {points(test.high)}</span>'
    return (
        f'<li><span class="label">{name(label)}</span>{change_track(before, after, sure=sure)}'
        f'<span class="figure">{figures}</span></li>'
    )


def curves(run: RunView) -> str:
    """Return validation accuracy, train accuracy and loss over the epochs of both runs."""
    runs = [("with the agent" if run.agent_enabled else "this run", "agent", run)]
    if run.baseline is not None:
        runs.insert(0, ("real only", "real", run.baseline))
    marks = [round_.record.epoch for round_ in run.rounds]

    def lines(field: str) -> list[Line]:
        return [
            Line(label=label, css=css, points=_points(view.metrics, field))
            for label, css, view in runs
        ]

    charts = [
        line_chart(
            title,
            lines(field),
            x_label="epoch",
            y_text=lambda y: f"{100 * y:g} %",
            marks=marks,
            y_limit=1.0,
        )
        for title, field in (
            ("Validation accuracy", "validation_accuracy"),
            ("Train accuracy, real images", "train_accuracy"),
        )
    ]
    charts.append(
        line_chart(
            "Training loss", lines("loss"), x_label="epoch", y_text="{:g}".format, marks=marks
        )
    )
    drawn = "".join(charts)
    lead = "Vertical lines mark the rounds of the agent." if marks else ""
    return section(
        "curves", "Training curves", f'<div class="charts">{drawn}</div>' if drawn else "",
        lead=lead,
    )  # fmt: skip


def _points(metrics: tuple[EpochMetrics, ...], field: str) -> tuple[tuple[float, float], ...]:
    values = ((epoch.epoch, getattr(epoch, field)) for epoch in metrics)
    return tuple((float(epoch), float(value)) for epoch, value in values if value is not None)


def time_spent(run: RunView) -> str:
    """Return the time per stage: one stacked bar per run, on the same scale."""
    runs = [("With the agent" if run.agent_enabled else "This run", run)]
    if run.baseline is not None and run.baseline.seconds:
        runs.append(("Real only", run.baseline))
    if not run.seconds:
        return ""
    stages = list(dict.fromkeys(stage for _, view in runs for stage in view.seconds))
    css = {stage: f"stage stage-{min(i, 9)}" for i, stage in enumerate(stages)}
    longest = max(sum(view.seconds.values()) for _, view in runs)
    bars = ""
    for title, view in runs:
        total = sum(view.seconds.values())
        parts = [(css[stage], seconds) for stage, seconds in view.seconds.items()]
        spoken = ", ".join(f"{s} {duration(n)}" for s, n in view.seconds.items())
        bars += (
            f'<p class="bar-title"><b>{title}</b> <span>{duration(total)}</span></p>'
            f"{stacked_bar(parts, longest, f'{title}: {spoken}')}"
        )
    whole = sum(run.seconds.values())
    legend = "".join(
        f'<li><span class="swatch {css[stage]}"></span>{name(stage)} '
        f'<span class="figure">{duration(seconds)}, {percent(seconds / whole)}</span></li>'
        for stage, seconds in run.seconds.items()
    )
    return section("time", "Time per stage", f'{bars}<ul class="legend">{legend}</ul>')
