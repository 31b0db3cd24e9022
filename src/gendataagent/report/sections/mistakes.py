"""Test images that the agent cured, and those that it cost."""

from __future__ import annotations

from collections.abc import Sequence

from gendataagent.report.markup import count, esc, name, section
from gendataagent.report.run_view import RunView
from gendataagent.report.thumbnails import Thumbnails
from gendataagent.runs.mistakes import Mistake


def mistakes(run: RunView, thumbnails: Thumbnails) -> str:
    """Return some test images that only one of the two classifiers gets right."""
    cured = [one for one in run.mistakes if one.cured]
    wrong = [one for one in run.mistakes if not one.cured]
    if not run.mistakes:
        return ""
    without = run.baseline.right if run.baseline else {}
    both = [(right, without[id_]) for id_, right in run.right.items() if id_ in without]
    columns = _column(
        run, f"Cured, {count(sum(a and not b for a, b in both))} images", "kept", cured, thumbnails
    ) + _column(
        run,
        f"New mistakes, {count(sum(b and not a for a, b in both))} images"
        if both
        else f"Mistakes, {count(sum(not right for right in run.right.values()))} images",
        "rejected",
        wrong,
        thumbnails,
    )
    lead = (
        "Test images that one of the two classifiers gets right and the other does not; some of "
        "each class, drawn by their names."
        if both
        else "Some test images of each class that the classifier gets wrong, drawn by their names."
    )
    return section(
        "mistakes", "Test images", f'<div class="side-by-side">{columns}</div>', lead=lead
    )


def _column(
    run: RunView, title: str, css: str, shown: Sequence[Mistake], thumbnails: Thumbnails
) -> str:
    if not shown:
        return ""
    figures = "".join(_figure(run, mistake, thumbnails) for mistake in shown)
    return f'<div><h4 class="{css}-word">{title}</h4><ul class="images">{figures}</ul></div>'


def _figure(run: RunView, mistake: Mistake, thumbnails: Thumbnails) -> str:
    label = run.class_name(mistake.label)
    other = mistake.without if mistake.cured and mistake.without is not None else mistake.predicted
    said = run.class_name(other)
    image = thumbnails.image(
        run.folder / "mistakes" / mistake.file, f"test image of class {label}, taken for {said}"
    )
    who = "real only" if mistake.cured else run.called
    return (
        f'<li><figure class="{"kept" if mistake.cured else "rejected"}" '
        f'title="{esc(mistake.id)}">{image}<figcaption><b>{name(label)}</b>'
        f"<span>{who}: {name(said)}</span></figcaption></figure></li>"
    )
