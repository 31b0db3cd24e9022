"""Histograms of several samples, one below the other over a common axis, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gendataagent.report.charts import BOTTOM, HEIGHT, RIGHT, WIDTH
from gendataagent.report.markup import esc, small

BINS = 10
_GAP = 10  # above the tallest bar of each histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The values of one histogram, and the CSS class of its colour."""

    label: str
    css: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean of the values, of which there is at least one."""
        return sum(self.values) / len(self.values)


def histograms(title: str, samples: Sequence[Sample], *, high: float, x_label: str) -> str:
    """Return a figure with one histogram for each sample that has values, "" if none has.

    All have the same bins over [0, high], with bars as high as the share of the sample's values in
    them. Values beyond are counted in the last bin. A dashed line marks each mean.
    """
    finite = [replace(s, values=tuple(v for v in s.values if math.isfinite(v))) for s in samples]
    drawn = [sample for sample in finite if sample.values]
    if not drawn or high <= 0:
        return ""
    shares = [_shares(sample.values, high) for sample in drawn]
    row_height = (HEIGHT - BOTTOM) / len(drawn)
    scale = (row_height - _GAP) / max(map(max, shares))
    rows = "".join(
        _row(sample, each, row_height * (index + 1), row_height - _GAP, scale, high)
        for index, (sample, each) in enumerate(zip(drawn, shares, strict=True))
    )
    axis = "".join(
        f'<text x="{x}" y="{HEIGHT - 10}" text-anchor="{anchor}">{esc(text)}</text>'
        for x, anchor, text in (
            (RIGHT, "start", f"{x_label} 0"),
            (WIDTH - RIGHT, "end", f"{high:.2g}"),
        )
    )
    means = [f"{s.mean:.2f}" if high >= 0.1 else small(s.mean) for s in drawn]
    figures = [f"{s.mean:.2f}" if high >= 0.1 else f"{s.mean:.2g}" for s in drawn]
    spoken = "; ".join(
        f"{s.label}: mean {figure}" for s, figure in zip(drawn, figures, strict=True)
    )
    legend = "".join(
        f'<li><span class="swatch {sample.css}"></span>{esc(sample.label)}, mean {mean}</li>'
        for sample, mean in zip(drawn, means, strict=True)
    )
    return (
        f'<figure class="chart"><figcaption>{esc(title)}</figcaption>'
        f'<ul class="legend">{legend}</ul>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{esc(title)}: {esc(spoken)}">'
        f"{rows}{axis}</svg></figure>"
    )


def _shares(values: Sequence[float], high: float) -> list[float]:
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, max(0, int(value / high * BINS)))] += 1
    return [n / len(values) for n in counts]


def _row(
    sample: Sample, shares: Sequence[float], base: float, height: float, scale: float, high: float
) -> str:
    """Return one histogram, whose bars stand on y = `base`."""
    width = (WIDTH - 2 * RIGHT) / BINS
    mean = round(RIGHT + min(max(sample.mean / high, 0), 1) * (WIDTH - 2 * RIGHT), 1)
    bars = "".join(
        f'<rect class="{sample.css}" x="{RIGHT + i * width + 1:.1f}" y="{base - share * scale:.1f}"'
        f' width="{width - 2:.1f}" height="{share * scale:.1f}"/>'
        for i, share in enumerate(shares)
        if share
    )
    return (
        f'{bars}<line class="grid" x1="{RIGHT}" x2="{WIDTH - RIGHT}" y1="{base:.1f}" '
        f'y2="{base:.1f}"/><line class="mark" x1="{mean}" x2="{mean}" y1="{base - height:.1f}" '
        f'y2="{base:.1f}"/>'
    )
