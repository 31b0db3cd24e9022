"""Histograms: bars, means and what is left out."""

from __future__ import annotations

import math
import re

import pytest

from gendataagent.report.charts import BOTTOM, HEIGHT, RIGHT, WIDTH
from gendataagent.report.histograms import Sample, histograms


def test_bars_are_as_high_as_the_share_of_the_values() -> None:
    drawn = histograms(
        "p",
        [
            Sample(label="half", css="real", values=(0.05, 0.95)),
            Sample(label="all", css="agent", values=(0.35, 0.35, math.nan)),
        ],
        high=1.0,
        x_label="p",
    )
    heights = {
        css: [float(h) for h in re.findall(rf'<rect class="{css}"[^>]* height="([\d.]+)"', drawn)]
        for css in ("real", "agent")
    }
    assert heights["agent"] == [(HEIGHT - BOTTOM) / 2 - 10]
    assert heights["real"] == [heights["agent"][0] / 2] * 2
    assert "half: mean 0.50; all: mean 0.35" in drawn
    means = [float(x) for x in re.findall(r'class="mark" x1="([\d.]+)"', drawn)]
    assert means == pytest.approx([RIGHT + p * (WIDTH - 2 * RIGHT) for p in (0.5, 0.35)])


def test_values_beyond_the_axis_are_in_the_outermost_bins() -> None:
    drawn = histograms(
        "p", [Sample(label="a", css="real", values=(-0.1, 1.0, 1.7))], high=1.0, x_label="p"
    )
    assert drawn.count('<rect class="real"') == 2


def test_without_values_there_is_no_figure() -> None:
    empty = [Sample(label="a", css="real", values=(math.inf,))]
    assert histograms("p", empty, high=1.0, x_label="p") == ""
    some = [Sample(label="a", css="real", values=(0.0,))]
    assert histograms("p", some, high=0.0, x_label="p") == ""


def test_labels_are_escaped() -> None:
    drawn = histograms(
        "<t>", [Sample(label="<a>", css="real", values=(0.5,))], high=1.0, x_label="<x>"
    )
    assert not re.search("<[atx]>", drawn)
