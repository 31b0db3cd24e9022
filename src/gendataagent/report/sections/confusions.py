"""Which classes are taken for which, without and with the agent."""

from __future__ import annotations

from gendataagent.core.records import Evaluation
from gendataagent.report.charts import bar
from gendataagent.report.markup import count, details, esc, name, percent, section, signed, table
from gendataagent.report.run_view import RunView

CONFUSIONS_SHOWN = 10
MATRIX_CLASSES = 20

_UNSEEN_HEAD = '<span class="unseen">as a bar</span>'


def confusions(run: RunView) -> str:
    """Return the most frequent confusions, those that changed most, and both matrices."""
    final = run.final
    if final is None or not final.confusion:
        return ""
    before = run.before
    if before is not None and (
        before.split != final.split or len(before.confusion) != len(final.confusion)
    ):
        before = None
    if not _pairs(final) and (before is None or not _pairs(before)):
        return ""
    body = _most_frequent(run, final, before)
    if before is not None:
        body += _changed(run, final, before)
    if 1 < len(final.confusion) <= MATRIX_CLASSES:
        body += _matrices(run, final, before)
    return section(
        "confusions",
        "Confusions",
        body,
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


def _title(run: RunView, true: int, predicted: int) -> str:
    return f"{name(run.class_name(true))} → {name(run.class_name(predicted))}"


def _most_frequent(run: RunView, final: Evaluation, before: Evaluation | None) -> str:
    pairs = _pairs(final)[:CONFUSIONS_SHOWN]
    rows = []
    for errors, true, predicted in pairs:
        cells = [_title(run, true, predicted)]
        if before is not None:
            cells.append(count(before.confusion[true][predicted]))
        share = errors / max(sum(final.confusion[true]), 1)
        cells += [f"<b>{count(errors)}</b>", percent(share), bar(errors / pairs[0][0], "agent")]
        rows.append(cells)
    head = ["true → predicted", "images", "share of the class", _UNSEEN_HEAD]
    if before is not None:
        head[1:2] = ["real only", run.called]
    return table(head, rows, caption="Most frequent confusions") if rows else ""


def _changed(run: RunView, final: Evaluation, before: Evaluation) -> str:
    """Return the confusions that became rarer, and those that became more frequent."""
    size = range(len(final.confusion))
    changes = sorted(
        (final.confusion[true][said] - before.confusion[true][said], true, said)
        for true in size
        for said in size
        if true != said
    )
    rarer = [change for change in changes[: CONFUSIONS_SHOWN // 2] if change[0] < 0]
    oftener = [change for change in changes[: -CONFUSIONS_SHOWN // 2 - 1 : -1] if change[0] > 0]
    columns = "".join(
        f'<div><h4 class="{css}-word">{title}</h4>'
        + table(
            ["true → predicted", "real only", run.called, "change"],
            [
                [
                    _title(run, true, said),
                    count(before.confusion[true][said]),
                    count(final.confusion[true][said]),
                    signed(change, 0),
                ]
                for change, true, said in group
            ],
            caption=title,
        )
        + "</div>"
        for css, title, group in (("up", "Rarer", rarer), ("down", "More frequent", oftener))
        if group
    )
    return f'<h3>What changed most</h3><div class="side-by-side">{columns}</div>' if columns else ""


def _matrices(run: RunView, final: Evaluation, before: Evaluation | None) -> str:
    """Return the confusion matrices, each row as shares of its class."""
    agent = run.called.capitalize()
    shown = [(agent, final)] if before is None else [("Real only", before), (agent, final)]
    drawn = "".join(
        f"<div><h4>{title}</h4>{_matrix(run, evaluation, title)}</div>"
        for title, evaluation in shown
    )
    return details(
        "Confusion matrices, in images: a row for each true class, a column for each predicted",
        f'<div class="side-by-side matrices">{drawn}</div>',
    )


def _matrix(run: RunView, evaluation: Evaluation, title: str) -> str:
    names = [run.class_name(label) for label in range(len(evaluation.confusion))]
    rows = [
        [name(names[true])]
        + [
            f'<span class="cell {"hit" if true == said else "miss"}" '
            f'style="--share: {images / max(sum(row), 1):.2f}">{count(images)}</span>'
            for said, images in enumerate(row)
        ]
        for true, row in enumerate(evaluation.confusion)
    ]
    head = ['<span class="unseen">true class</span>', *(f"<i>{name(one)}</i>" for one in names)]
    return table(head, rows, caption=f"Confusion matrix: {title}")
