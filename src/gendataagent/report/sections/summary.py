"""The top of the page: headline, cards, caveats and the table of results."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from gendataagent.core.records import SHORTFALL, Evaluation
from gendataagent.report.markup import (
    MISSING,
    count,
    details,
    duration,
    esc,
    name,
    number,
    percent,
    plural,
    points,
    section,
    signed,
    table,
)
from gendataagent.report.run_view import RunView
from gendataagent.report.wording import DISPARITY, VOG, rejection
from gendataagent.runs.results import RunResult
from gendataagent.runs.verdict import judge

# Settings in which a run and its baseline differ on purpose, or without effect on the comparison.
_EXPECTED_DIFFERENCES = (
    "agent.", "selection.", "prompting.", "generation.", "filter.", "training.steps_as_with_agent",
)  # fmt: skip


def headline(run: RunView) -> tuple[str, str]:
    """Return the headline and the paragraph below it, both HTML."""
    final = run.final
    if final is None:
        return _progress(run)
    where = f"{count(final.images)} {esc(final.split)} images"
    before = run.baseline.final if run.baseline else None
    if before is None or before.split != final.split:
        kind = "with the agent" if run.agent_enabled else "on real images only"
        return (
            f"{percent(final.top1)} top-1 {kind}",
            f"Measured on {where}. Worst class: {worst_class(final)}, "
            f"{percent(final.worst_class_accuracy)}. Worst-case disparity, {DISPARITY}: "
            f"{number(final.worst_case_disparity)}.",
        )
    difference = final.top1 - before.top1
    spread = (
        f"Worst class: {worst_class(final)}, {percent(final.worst_class_accuracy)} with "
        f"the agent; {worst_class(before)}, {percent(before.worst_class_accuracy)} "
        f"without. Worst-case disparity, {DISPARITY}: {number(final.worst_case_disparity)} with "
        f"the agent, {number(before.worst_case_disparity)} without."
    )
    if run.guard is not None and run.guard.chosen == "baseline":
        return (
            f'{percent(final.top1)} <span class="real-word">real only</span>: the guard kept the '
            "classifier trained without the agent",
            f"Top-1 on {where}. Worst class: {worst_class(final)}, "
            f"{percent(final.worst_class_accuracy)}.",
        )
    return (
        f'{percent(final.top1)} <span class="agent-word">with the agent</span>, '
        f'{percent(before.top1)} <span class="real-word">real only</span>: '
        f'<span class="difference">{points(difference)}&nbsp;points</span>',
        f"Top-1 on {where}. {spread}",
    )


def verdict(run: RunView) -> str:
    """Return the verdict on a finished run, "" for another."""
    if not run.finished or "test" not in run.evaluations:
        return ""
    if run.baseline is not None and "test" not in run.baseline.evaluations:
        return ""  # the caveats say what it lacks
    found = judge(_result_of(run))
    return (
        f'<p class="verdict {found.outcome}" role="status"><strong>Verdict.</strong> '
        f"{esc(found.sentence)}</p>"
    )


def use(run: RunView) -> str:
    """Return how to use the classifier of a finished run, "" for another."""
    if not run.finished:
        return ""
    quoted = esc(shlex.quote(run.folder.as_posix()))
    return (
        f'<p class="use">Use it: <code>gendataagent predict {quoted} photo.jpg</code> or '
        f"<code>gendataagent export {quoted} --to onnx --out model</code>; "
        f"<code>{quoted}/classifier</code> loads with transformers.</p>"
    )


def _result_of(run: RunView) -> RunResult:
    return RunResult(
        path=run.folder,
        evaluations=run.evaluations,
        rounds=tuple(round_.record for round_ in run.rounds),
        seconds=run.timing,
        optimizer_steps=sum(epoch.optimizer_steps for epoch in run.metrics),
        baseline=_result_of(run.baseline) if run.baseline else None,
        guard=run.guard,
        agent=run.agent_enabled,
        epochs=run.value("training.epochs"),
        right=run.right,
        known=run.known_classes,
    )


def worst_class(evaluation: Evaluation) -> str:
    """Return the name of the worst class, and how many others are as bad, as HTML."""
    return f"{name(evaluation.worst_class)}{evaluation.others_as_bad}"


def _progress(run: RunView) -> tuple[str, str]:
    """Return headline and paragraph of a run without a final evaluation."""
    measured = [epoch for epoch in run.metrics if epoch.validation_accuracy is not None]
    done = run.metrics[-1].epoch if run.metrics else 0
    progress = f"{count(done)} of {plural(run.value('training.epochs'), 'epoch')} trained"
    if not measured:
        return "No accuracy measured yet", f"{progress}; not evaluated yet."
    last = measured[-1]
    return (
        f"{percent(last.validation_accuracy)} validation accuracy so far",
        f"{progress}; measured after epoch {last.epoch}. The test split is used once, at the end.",
    )


def banner(run: RunView) -> str:
    """Return the notices above the page: a generator of other classes, an unfinished run."""
    known = run.known_classes
    notices = ""
    if known is not None and known.unknown:
        notices += (
            '<p class="banner" role="status"><strong>The generator does not know these classes.'
            f"</strong> {esc(known.warning)}</p>"
        )
    if run.finished:
        return notices
    started = (
        f" Round {', '.join(str(n + 1) for n in run.unfinished_rounds)} was started and is not "
        "shown."
        if run.unfinished_rounds
        else ""
    )
    return notices + (
        '<p class="banner" role="status"><strong>This run is not finished.</strong> This page '
        f'shows the results so far.{started} <a href="#next">How to resume it</a>.</p>'
    )


def damage(run: RunView, problems: Sequence[str]) -> str:
    """Return the notice above the page of a run with damaged files."""
    if not problems:
        return ""
    return (
        f'<p class="banner" role="alert"><strong>{plural(len(problems), "file")} of this run '
        f"{'is' if len(problems) == 1 else 'are'} damaged</strong>, so that this page is "
        'incomplete or wrong. They are named under <a href="#caveats">Caveats</a>; check all '
        f"files with <code>gendataagent verify {esc(run.folder)}</code>.</p>"
    )


def cards(run: RunView) -> str:
    """Return the key numbers of the run."""
    generator = run.manifest.generator
    items = []
    if run.agent_enabled:
        rejected = sum(run.rejected.values())
        reasons = ", ".join(
            f"{count(n)} {name(rejection(reason))}" for reason, n in run.rejected.items()
        )
        items += [
            ("made", count(run.made), "images generated"),
            ("kept", count(run.kept), "kept for training"),
            ("rejected", count(rejected), f"rejected{': ' if reasons else ''}{reasons}"),
        ]
    done = run.metrics[-1].epoch if run.metrics else 0
    epochs = plural(run.value("training.epochs"), "epoch")
    if run.agent_enabled:
        rounds = f"of {plural(run.value('agent.rounds'), 'round')}"
        items.append(("", f"{len(run.rounds)}", f"{rounds}, in {count(done)} of {epochs}"))
    else:
        items.append(("", count(done), f"of {epochs}"))
    items += [
        ("", duration(sum(run.seconds.values())), "compute time"),
    ]
    if run.agent_enabled and generator is not None:
        revision = f"revision {name(generator.revision[:12])}" if generator.revision else ""
        items.append(("words", name(generator.name), f"generator {revision}"))
    cells = "".join(
        f'<li class="card {css}"><b>{figure}</b><span>{label}</span></li>'
        for css, figure, label in items
    )
    explained = f'<p class="quiet">{VOG}.</p>' if "vog" in run.rejected else ""
    return f'<ul class="cards">{cells}</ul>{explained}'


def caveats(run: RunView, problems: Sequence[str]) -> str:
    """Return what limits the conclusions from this run.

    Args:
        problems: a sentence for each damaged file.
    """
    sentences = [esc(note) for note in run.manifest.notes]
    if not run.agent_enabled:
        sentences.append("The agent was off: this run trained on the real images only.")
    elif run.finished and not run.rounds and not run.unfinished_rounds:
        sentences.append("No round finished, so training used no synthetic images.")
    sentences += [
        f"Round {round_.record.round + 1}: {esc(note)}."
        for round_ in run.rounds
        for note in round_.record.notes
        if note.startswith(SHORTFALL)
    ]
    if run.guard is not None and run.guard.chosen != "baseline":  # else in the verdict
        sentences.append(esc(run.guard.sentence))
    if run.baseline is not None:
        sentences += _baseline_caveats(run, run.baseline)
    if run.finished and run.final and run.final.split != "test":
        sentences.append("There is no test split: the results are those on the validation split.")
    if run.quarantine:
        sentences.append(
            f"{plural(len(run.quarantine), 'unreadable file')} "
            f"{'was' if len(run.quarantine) == 1 else 'were'} left out "
            '(<a href="#quarantine">list</a>).'
        )
    sentences += [f"A file of the run is damaged: {esc(problem)}." for problem in problems]
    items = "".join(f"<li>{sentence}</li>" for sentence in sentences)
    return section("caveats", "Caveats", f"<ul class='notes'>{items}</ul>" if items
                   else "")  # fmt: skip


def _baseline_caveats(run: RunView, baseline: RunView) -> Iterator[str]:
    if baseline.final is None:
        yield "The baseline (real images only) is not finished: nothing to compare with yet."
    elif run.final is not None:
        yield (
            "This compares one run of each kind. Results vary between seeds: repeat with several "
            "seeds before drawing conclusions."
        )
    if run.manifest.data_fingerprint != baseline.manifest.data_fingerprint:
        yield "The two runs were trained on different data and are not comparable."
    steps = [sum(epoch.optimizer_steps for epoch in view.metrics) for view in (baseline, run)]
    if run.finished and baseline.finished and steps[0] != steps[1]:
        yield (
            f"The two runs took different numbers of optimiser steps, {count(steps[0])} and "
            f"{count(steps[1])}; this may explain part of the difference."
        )
    differing = [
        f"<code>{esc(key)}</code>"
        for key, row in run.settings.items()
        if row.setting.affects_results
        and not key.startswith(_EXPECTED_DIFFERENCES)
        and row.value != baseline.value(key)
    ]
    if differing:
        yield f"Besides the agent, the two runs differ in {', '.join(differing)}."


def comparison(run: RunView) -> str:
    """Return the table of the run and its baseline, if there is one.

    Changes are shown only between two finished runs.
    """
    columns = [(run.called.capitalize() if run.agent_enabled else "Real only", run)]
    if run.baseline is not None:
        columns.insert(0, ("Real only", run.baseline))
    comparable = len(columns) == 2 and all(view.finished for _, view in columns)
    facts = [list(_facts(view)) for _, view in columns]
    head = ['<span class="unseen">measure</span>', *(title for title, _ in columns)]
    if comparable:
        head.append("Change")
    rows = []
    for lines in zip(*facts, strict=True):
        cells = [text for _, text, _, _ in lines]
        if all(cell == MISSING for cell in cells):
            continue
        label, _, _, digits = lines[0]
        if comparable:
            cells.append(_change(lines[0][2], lines[1][2], digits))
        rows.append([label, *cells])
    if not rows:
        return ""
    explained = details(
        "What the rows mean",
        f"<p>Top-1: share of images whose most probable class is correct. Worst-case disparity: "
        f"{DISPARITY}. Gap: train minus validation accuracy, in points. ECE: expected calibration "
        "error, the mean difference between confidence and accuracy; lower is better.</p>",
    )
    body = table(head, rows, caption="Results") + explained
    return section("comparison", "Results", body)


def _facts(run: RunView) -> Iterator[tuple[str, str, float | None, int]]:
    """Yield (label, text, value, digits); the value of a share is in percentage points."""
    final = run.final
    train, validation = run.evaluations.get("train"), run.evaluations.get("validation")
    measured = [e for e in run.metrics if e.validation_accuracy is not None]
    train_accuracy = train.top1 if train else measured[-1].train_accuracy if measured else None
    valid_accuracy = (
        validation.top1 if validation else measured[-1].validation_accuracy if measured else None
    )

    def share(label: str, value: float | None) -> tuple[str, str, float | None, int]:
        return label, percent(value), None if value is None else 100 * value, 1

    yield share(f"Top-1 ({esc(final.split)})" if final else "Top-1", final.top1 if final else None)
    worst = final.worst_class_accuracy if final else None
    label, text, value, digits = share("Worst class", worst)
    yield label, f"{text} {worst_class(final)}" if final else text, value, digits
    disparity = final.worst_case_disparity if final else None
    yield "Worst-case disparity", number(disparity), disparity, 3
    yield share("Train accuracy", train_accuracy)
    yield share("Validation accuracy", valid_accuracy)
    gap = (
        100 * (train_accuracy - valid_accuracy)
        if train_accuracy is not None and valid_accuracy is not None
        else None
    )
    yield "Gap, points", MISSING if gap is None else signed(gap, 1), gap, 1
    ece = final.ece if final else None
    yield "Calibration error (ECE)", number(ece), ece, 3
    steps = sum(epoch.optimizer_steps for epoch in run.metrics)
    yield "Optimiser steps", count(steps) if steps else MISSING, float(steps), 0
    images = f"{count(run.made)} / {count(run.kept)}" if run.made else MISSING
    yield "Images generated / kept", images, None, 0
    seconds = sum(run.seconds.values())
    yield "Compute time", duration(seconds) if seconds else MISSING, None, 0


def _change(before: float | None, after: float | None, digits: int) -> str:
    if before is None or after is None:
        return ""
    return signed(after - before, digits)
