"""How the synthetic images of each class lie among its real ones."""

from __future__ import annotations

from gendataagent.core.coverage import Coverage, mean_coverage
from gendataagent.report.charts import stacked_bar
from gendataagent.report.markup import count, name, percent, section
from gendataagent.report.run_view import RunView

CLASSES_SHOWN = 60


def coverage(run: RunView) -> str:
    """Return coverage, precision, density and distance to the source, least covered class first."""
    mean = mean_coverage(run.coverage)
    if mean is None:
        return ""
    ranked = sorted(run.coverage.items(), key=lambda item: (item[1].coverage, item[0]))
    rows = [("all classes", mean), *((name(label), one) for label, one in ranked[:CLASSES_SHOWN])]
    items = "".join(_row(label, one) for label, one in rows)
    hidden = len(ranked) - CLASSES_SHOWN
    more = f'<p class="quiet">and {count(hidden)} more classes</p>' if hidden > 0 else ""
    return section(
        "coverage",
        "Synthetic among real images",
        '<ul class="legend"><li><span class="swatch kept"></span>validation images with a '
        f'synthetic one near them</li></ul><ul class="bars kept-rows">{items}</ul>{more}',
        lead="In the classifier's features, class by class. Covered: a validation image with a "
        "synthetic one nearer than its fifth-nearest other validation image. Plausible: a "
        "synthetic image that is so near to a validation image. Apart: mean cosine distance of a "
        "synthetic image from its source. Figures of two classifiers are not comparable.",
    )


def _row(label: str, one: Coverage) -> str:
    bar = stacked_bar([("kept", one.coverage)], 1.0, f"{label}: {percent(one.coverage)} covered")
    apart = "" if one.source_distance is None else f", {one.source_distance:.2f} apart"
    return (
        f'<li><span class="label">{label}</span>{bar}<span class="figure">'
        f"{100 * one.coverage:.0f} % covered, {100 * one.precision:.0f} % plausible{apart}"
        "</span></li>"
    )
