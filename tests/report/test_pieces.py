"""Number formats, charts, and escaping."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest

from gendataagent.report.charts import Line, change_track, line_chart, nice_ticks, stacked_bar
from gendataagent.report.markup import duration, esc, percent, plural, points, signed, small
from gendataagent.report.sections.gallery import marked_changes


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (percent(0.7134), "71.3\u00a0%"),
        (percent(None), "\u2013"),
        (percent(math.nan), "\u2013"),
        (points(0.021), "+2.1"),
        (points(-0.021), "\u22122.1"),
        (points(-0.0001), "0.0"),
        (signed(-1.25, 2), "\u22121.25"),
        (small(0.0110), "0.0110"),
        (small(123.0), "123"),
        (small(0.0), "0.00"),
        (small(0.0000152), "1.52·10<sup>\u22125</sup>"),
        (duration(42.04), "42.0\u00a0s"),
        (duration(192), "3\u00a0min 12\u00a0s"),
        (duration(7500), "2\u00a0h 05\u00a0min"),
        (duration(math.inf), "\u2013"),
        (plural(1, "round"), "1\u00a0round"),
        (plural(12345, "round"), "12,345\u00a0rounds"),
    ],
)
def test_number_formats(shown: str, expected: str) -> None:
    assert shown == expected


def test_escape() -> None:
    assert esc("<a b=\"c\" d='e'>&") == "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;&amp;"
    assert esc("a\x00b\u202ec\udcff") == "a\ufffdb\ufffdc\ufffd"
    assert esc("Größe\né 猫") == "Größe\né 猫"


@pytest.mark.parametrize(
    ("low", "high", "limit"),
    [(0.1, 0.83, 1.0), (0.97, 0.999, 1.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (2.3, 0.4e3, None)],
)
def test_ticks_are_round_and_enclose(low: float, high: float, limit: float | None) -> None:
    ticks = nice_ticks(low, high, limit=limit)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert limit is None or ticks[-1] <= limit
    assert 2 <= len(ticks) <= 7


def test_line_chart_draws_points_at_their_positions() -> None:
    lines = [Line(label="a < b", css="agent", points=((1, 0.0), (2, math.nan), (3, 1.0)))]
    figure = line_chart(
        "T", lines, x_label="epoch", y_text="{:g}".format, marks=[2, 99], y_limit=1.0
    )
    root = ElementTree.fromstring(figure)
    polyline = root.find(".//polyline")
    assert polyline is not None
    (x1, y1), (x2, y2) = (map(float, pair.split(",")) for pair in polyline.attrib["points"].split())
    assert x1 < x2
    assert y1 > y2  # the larger value is higher up
    marks = [e for e in root.iter("line") if e.get("class") == "mark"]
    assert [float(e.attrib["x1"]) for e in marks] == [pytest.approx((x1 + x2) / 2)]
    assert "a < b" in "".join(root.itertext())


def test_line_chart_of_no_points_and_of_one() -> None:
    nothing = [Line(label="a", css="real", points=((1, math.nan),))]
    assert line_chart("T", nothing, x_label="x", y_text=str) == ""
    one = [Line(label="a", css="real", points=((1, 0.5),))]
    assert "<circle" in line_chart("T", one, x_label="x", y_text=str)


def test_tracks_and_stacks_position_marks_in_per_cent() -> None:
    track = ElementTree.fromstring(change_track(0.25, 0.75))
    assert [c.get("cx") for c in track.iter("circle")] == ["25.0%", "75.0%"]
    way = [e for e in track.iter("line") if "way" in e.attrib["class"]]
    assert [e.get("class") for e in way] == ["way up"]
    stack = ElementTree.fromstring(stacked_bar([("a", 1.0), ("b", 3.0)], 8.0, "x"))
    parts = [(e.get("x"), e.get("width")) for e in stack.iter("rect")][1:]
    assert parts == [("0.00%", "12.50%"), ("12.50%", "37.50%")]


def test_changed_words_are_marked() -> None:
    assert marked_changes("a cat on grass", "a cat on snow") == "a cat on <mark>snow</mark>"
    assert marked_changes("a cat, on grass", "a cat") == "a cat"  # a comma is no change
    assert marked_changes("a <b>", "a <i>") == "a <mark>&lt;i&gt;</mark>"
    assert marked_changes("", "a cat") == "a cat"
