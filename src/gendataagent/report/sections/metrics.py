"""Accuracy per class, training curves, confusions and time, as charts."""

from __future__ import annotations

from gendataagent.core.records import EpochMetrics, Evaluation
from gendataagent.report.charts import Line, bar, change_track, line_chart, stacked_bar
from gendataagent.report.markup import (
    count,
    duration,
    esc,
    name,
    percent,
    points,
    section,
    table,
)
from gendataagent.report.run_reader import RunView

CLASSES_SHOWN = 60
CONFUSIONS_SHOWN = 10

_UNSEEN_HEAD = '<span class="unseen">as a bar</span>'
_SCALE = (
    '<li class="scale" aria-hidden="true"><span>0 %</span><span>50 %</span><span>100 %</span></li>'
)


def per_class(run: RunView) -> str:
    """Return the accuracy of each class without and with the agent, sorted by change."""
    final = run.final
    if final is None or not final.per_class:
        return ""
    before = run.baseline.final if run.baseline else None
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
    items = "".join(_class_row(*row) for row in rows)
    more = (
        f'<p class="quiet">{count(hidden)} classes in the middle are not shown.</p>'
        if hidden > 0
        else ""
    )
    after_word = "with the agent" if run.agent_enabled else "this run"
    legend = f'<li><span class="swatch agent"></span>{after_word}</li>'
    if before is not None:
        legend = f'<li><span class="swatch real"></span>real only</li>{legend}'
    order = "largest gain first" if before is not None else "lowest first"
    return section(
        "classes",
        "Accuracy per class",
        f'<ul class="legend">{legend}</ul><ul class="bars class-rows">{items}{_SCALE}</ul>{more}',
        lead=f"Accuracy on {esc(final.split)}, {order}.",
    )


def _class_row(label: str, before: float | None, after: float) -> str:
    if before is None:
        figures = f"<b>{percent(after)}</b>"
    else:
        change = after - before
        css = "up-word" if change > 0 else "down-word" if change < 0 else ""
        figures = (
            f'{percent(before)} → <b>{percent(after)}</b> <em class="{css}">{points(change)}</em>'
        )
    return (
        f'<li><span class="label">{name(label)}</span>{change_track(before, after)}'
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


def confusions(run: RunView) -> str:
    """Return the most frequent confusions of one class with another."""
    final = run.final
    if final is None:
        return ""
    before = run.baseline.final if run.baseline else None
    if before is not None and (
        before.split != final.split or len(before.confusion) != len(final.confusion)
    ):
        before = None
    pairs = _pairs(final)[:CONFUSIONS_SHOWN]
    if not pairs:
        return ""
    largest = pairs[0][0]
    rows = []
    for errors, true, predicted in pairs:
        cells = [f"{name(run.class_name(true))} → {name(run.class_name(predicted))}"]
        if before is not None:
            cells.append(count(before.confusion[true][predicted]))
        share = errors / max(sum(final.confusion[true]), 1)
        cells += [f"<b>{count(errors)}</b>", percent(share), bar(errors / largest, "agent")]
        rows.append(cells)
    head = ["true → predicted", "images", "share of the class", _UNSEEN_HEAD]
    if before is not None:
        head[1:2] = ["real only", "with the agent"]
    return section(
        "confusions",
        "Most frequent confusions",
        table(head, rows, caption="Most frequent confusions"),
        lead=f"Misclassified {esc(final.split)} images by true and predicted class.",
    )


def _pairs(evaluation: Evaluation) -> list[tuple[int, int, int]]:
    """Return (errors, true class, predicted class) of all confusions, most frequent first."""
    found = (
        (errors, true, predicted)
        for true, row in enumerate(evaluation.confusion)
        for predicted, errors in enumerate(row)
        if true != predicted and errors > 0
    )
    return sorted(found, key=lambda pair: (-pair[0], pair[1], pair[2]))


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
