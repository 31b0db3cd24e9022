"""Plots: marks where the figures say, nothing drawn that was not measured, readable by all."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import pytest

from gendataagent.experiments.plots import (
    Plot,
    cost_plots,
    difference_plots,
    mean_plots,
    sweep_plots_of,
)
from gendataagent.experiments.plots.canvas import (
    WIDTH,
    Scale,
    enclosing,
    fitted,
    plots_style,
    text_width,
    typographic,
)
from gendataagent.experiments.plots.series import images_to_reach, series_groups
from gendataagent.report.html_document import palette

from .made_up import efficiency_rows, rows_of

SVG = "{http://www.w3.org/2000/svg}"
ROWS = rows_of({"base": [0.4, 0.5, 0.6], "up": [0.5, 0.62, 0.7], "same": [0.5, 0.4, 0.6]})


def elements(plot: Plot, tag: str, css: str = "") -> list[ElementTree.Element]:
    """The elements of a plot's file by tag and one of their classes."""
    root = ElementTree.fromstring(plot.file())
    return [
        element
        for element in root.iter(SVG + tag)
        if not css or css in (element.get("class") or "").split()
    ]


def groups(plot: Plot, css: str) -> list[ElementTree.Element]:
    return elements(plot, "g", css)


def xs(found: Sequence[ElementTree.Element], name: str = "cx") -> list[float]:
    return [float(element.attrib[name]) for element in found]


def words(plot: Plot) -> str:
    return " ".join(ElementTree.fromstring(plot.file()).itertext())


def test_a_difference_lies_where_its_figures_say() -> None:
    plot = difference_plots(ROWS, "base")[0]
    (zero,) = xs(elements(plot, "line", "zero"), "x1")
    tick = next(e for e in elements(plot, "text", "quiet") if re.fullmatch(r"\+\d+", e.text or ""))
    point = (float(tick.attrib["x"]) - zero) / float(tick.text or "")  # the width of a point
    (up,) = groups(plot, "above")
    (middle,) = xs(up.findall(f"{SVG}circle[@class='middle']"))
    assert middle == pytest.approx(zero + 10.667 * point, abs=0.5)
    seeds = xs(up.findall(f"{SVG}circle[@class='seed']"))
    assert seeds == pytest.approx([zero + d * point for d in (10, 12, 10)], abs=0.5)
    half = 4.3027 * math.sqrt(4 / 3) / math.sqrt(3)
    whisker = up.findall(f"{SVG}line[@class='whisker']")[0]
    ends = [float(whisker.attrib[name]) for name in ("x1", "x2")]
    expected = [zero + (10.667 - half) * point, zero + (10.667 + half) * point]
    assert ends == pytest.approx(expected, abs=0.5)


def test_what_leaves_out_zero_is_told_by_star_and_filling_not_by_colour_alone() -> None:
    plot = difference_plots(ROWS, "base")[0]
    assert ["sure" in (g.get("class") or "") for g in groups(plot, "above")] == [True]
    assert len(groups(plot, "plain")) == 1
    assert "+10.7 [+7.8, +13.5] * (n 3)" in words(plot)
    assert "up +10.7 [+7.8, +13.5], leaves out zero, (n 3)" in plot.description
    below = difference_plots(ROWS, "up")[0]
    assert len(groups(below, "below")) == 1


def test_a_very_wide_interval_ends_in_an_arrow_inside_of_the_drawing() -> None:
    rows = rows_of({"base": [0.4, 0.4], "a": [0.41, 0.45], "b": [0.41, 0.411]})
    plot = difference_plots(rows, "base")[0]
    arrows = elements(plot, "polygon", "arrow")
    assert len(arrows) == 2
    corners = [float(n) for a in arrows for n in re.findall(r"([\d.]+),", a.attrib["points"])]
    assert min(corners) >= 0
    assert max(corners) <= WIDTH
    assert any("arrow head" in note for note in plot.notes)


def test_one_seed_is_drawn_without_interval_and_says_so() -> None:
    plot = difference_plots(rows_of({"base": [0.4], "a": [0.5], "b": [0.3]}), "base")[0]
    assert elements(plot, "line", "whisker") == []
    assert len(elements(plot, "circle", "middle")) == 2
    assert elements(plot, "circle", "seed") == []
    assert "One shared seed: there are no intervals" in plot.notes[0]
    assert "no interval" in words(plot)
    assert "95 %" not in words(plot)
    mean = mean_plots(rows_of({"a": [0.5]}))[0]
    assert "no spread" in words(mean)


def test_an_arm_without_a_seed_of_the_baseline_is_named_and_not_drawn() -> None:
    rows = rows_of({"base": [0.4, 0.4, math.nan], "a": [0.5, 0.52], "late": [math.nan] * 2 + [0.5]})
    plot = difference_plots(rows, "base")[0]
    assert "late" not in words(plot).replace(plot.description, "")
    assert plot.notes == ("Left out, as they share no seed with base: late.",)
    assert difference_plots(rows, "nobody") == ()


def test_what_is_no_number_is_never_drawn() -> None:
    rows = rows_of({"base": [0.4, 0.5], "a": [0.5, 0.6], "x-1": [0.5, 0.5], "x-2": [0.5, 0.6]})
    rows[2]["top1"] = math.nan
    rows.append({**rows[0], "arm": "never", "top1": math.nan, "worst_class": None})
    plots = [*difference_plots(rows, "base"), *mean_plots(rows), *sweep_plots_of(rows, "base"),
             *cost_plots(rows)]  # fmt: skip
    assert len(plots) == 7
    for plot in plots:
        assert not re.search(r"\b(nan|inf)\b", plot.file())
        assert "never" not in plot.file()
    assert mean_plots([rows[-1]]) == ()
    assert cost_plots(rows[:2]) == ()


def test_all_values_the_same_are_drawn() -> None:
    rows = rows_of({"base": [0.4, 0.4], "a": [0.4, 0.4]})
    for plot in (*difference_plots(rows, "base"), *mean_plots(rows), *cost_plots(rows)):
        assert len({line.get("x1") for line in elements(plot, "line", "grid")}) >= 2


def test_series_are_told_by_the_names_of_arms() -> None:
    values = {arm: [0.5] for arm in (
        "real-fake", "strength-0.50", "strength-0.9", "vog-high-0.25", "vog-high-0.75",
        "random-0.25", "random-0.75", "lonely-0.1", "guidance 3", "guidance 7.5", "top-5",
    )}  # fmt: skip
    groups = series_groups(rows_of(values), "top1")
    names = [[series.name for series in group] for group in groups]
    assert names == [["strength"], ["vog-high", "random"], ["guidance"]]
    assert [point.at for point in groups[2][0].points] == [3.0, 7.5]


def test_series_by_images_lie_at_their_generated_images() -> None:
    nothing = rows_of({"none-x1": [0.5], "none-x2": [0.5]}, generated={"none-x1": 0, "none-x2": 9})
    (group,) = series_groups([*efficiency_rows(), *nothing], "top1")
    assert [series.name for series in group] == ["a", "b"]
    assert [point.at for point in group[0].points] == [200, 400, 800, 1600]
    plot = sweep_plots_of(efficiency_rows(), "real")[0]
    first = groups(plot, "series-0")[1].find(f"{SVG}polyline")
    assert first is not None
    places = [float(pair.split(",")[0]) for pair in first.attrib["points"].split()]
    steps = [right - left for left, right in itertools.pairwise(places)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)  # doubling is a step: logarithmic
    assert len(elements(plot, "polygon", "band")) == 2
    assert len(elements(plot, "line", "baseline")) == 2  # in the legend and in the drawing
    assert not any("goes on" in note for note in plot.notes)
    wide = sweep_plots_of(rows_of({"s-1": [0.40, 0.41], "s-2": [0.40, 0.48]}), "real")[0]
    assert wide.notes == ("A band that ends at an edge goes on.",)


def test_where_a_series_reaches_the_best_of_another() -> None:
    (group,) = series_groups(efficiency_rows(), "top1")
    points = group[1].points
    assert images_to_reach(points, 0.55) == pytest.approx(math.sqrt(400 * 800))
    assert images_to_reach(points, 0.3) == 200
    assert images_to_reach(points, 0.71) is None
    notes = " ".join(sweep_plots_of(efficiency_rows(), "real")[0].notes)
    assert "a does not reach the best mean of b (70.0 % at 1,600 images, n 3)" in notes
    assert "b reaches the best mean of a (50.0 % at 1,600 images, n 3) at about 400 images" in notes
    assert "25% as many; at 400 images its paired difference to that best is " in notes
    assert "partly chance" in notes


def test_a_curve_of_one_seed_has_no_band() -> None:
    rows = [row for row in efficiency_rows() if row["seed"] == 0 or row["arm"].startswith("a")]
    plot = sweep_plots_of(rows, "real")[0]
    assert len(elements(plot, "polygon", "band")) == 1
    assert plot.notes[0] == "One seed, no band: b-x1, b-x2, b-x4, b-x8."
    single = [row for row in efficiency_rows() if row["seed"] == 0]
    assert sweep_plots_of(single, "real")[0].notes[0] == "One seed: no bands."


def test_the_numbers_of_a_crowd_do_not_cover_each_other() -> None:
    rows = rows_of({f"arm{n:02}": [0.5 + n / 1000] for n in range(14)} | {"alone": [0.6]})
    plot = cost_plots(rows)[0]
    numbers = [
        (float(e.attrib["x"]), float(e.attrib["y"]))
        for e in elements(plot, "text")
        if e.get("text-anchor") == "middle" and e.get("class") is None
    ]
    assert len(numbers) == 15
    for place, one in enumerate(numbers):
        for other in numbers[:place]:
            assert abs(one[0] - other[0]) > 12 or abs(one[1] - other[1]) > 9


def test_a_file_stands_alone_and_is_described() -> None:
    plots = [*difference_plots(ROWS, "base"), *mean_plots(ROWS), *cost_plots(ROWS),
             *sweep_plots_of(efficiency_rows(), "real")]  # fmt: skip
    for plot in plots:
        root = ElementTree.fromstring(plot.file())
        title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
        assert title is not None
        assert description is not None
        assert root.attrib["aria-labelledby"].split() == [title.get("id"), description.get("id")]
        assert len(description.text or "") > 60
        assert "prefers-color-scheme: dark" in plot.file()
        outside = plot.file().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|@import|url\((?!#)|href", outside)
        assert "<style" not in plot.inline()
        drawn_to = [float(e.attrib["y"]) for e in root.iter(f"{SVG}text")]
        assert max(drawn_to) < plot.height


def test_names_fit_and_are_escaped() -> None:
    long = "W" * 80 + "<&>" + "é" * 80
    plot = difference_plots(rows_of({"base": [0.4, 0.5], long: [0.5, 0.7]}), "base")[0]
    texts = [e.text or "" for e in elements(plot, "text") if "…" in (e.text or "")]
    assert len(texts) == 1
    assert text_width(texts[0], 13) < WIDTH / 2
    named = mean_plots(rows_of({"<a & b>": [0.5]}))[0]
    assert "<a & b>" in words(named).replace(named.description, "")
    assert fitted("short", 100) == "short"
    assert fitted("abcdefghij", 50) == "abc…ij"
    assert fitted("abc", 1) == "…"


def test_numbers_have_a_real_minus_and_names_keep_their_hyphens() -> None:
    assert typographic("-1.0 [-2.0, +3.0]") == "\u22121.0 [\u22122.0, +3.0]"
    assert typographic("minus vog-0.25") == "minus vog-0.25"


def test_scales_and_ranges() -> None:
    assert Scale(low=0, high=10, start=100, end=200).at(2.5) == 125
    assert Scale(low=1, high=100, start=0, end=200, log=True).at(10) == 100
    assert enclosing([1, 2], [1.5, 2.5]) == (1, 2.5)
    assert enclosing([1, 2], [-99, 99]) == (-0.5, 3.5)
    assert enclosing([0.1, 0.9], [-0.3, 1.4], limits=(0, 1)) == (0, 1)
    assert enclosing([math.nan, 1], [math.inf, -math.inf]) == (1, 1)


def colours(theme: str) -> dict[str, str]:
    """The colours of a theme by name, of palette and plots."""
    found: dict[str, str] = {}
    for css in (palette(), plots_style()):
        light, _, dark = css.partition("prefers-color-scheme: dark")
        for part in (light, dark) if theme == "dark" else (light,):
            found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part))
    return found


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(w * value for w, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_and_marks_stand_out_from_their_ground(theme: str) -> None:
    named = colours(theme)
    ground = luminance(named["card"])
    at_least = {"ink": 4.5, "quiet": 4.5, "kept": 3, "refused": 3, "agent": 3}
    at_least |= {f"series-{n}": 3 for n in range(6)}
    for name, ratio in at_least.items():
        low, high = sorted((luminance(named[name]), ground))
        assert (high + 0.05) / (low + 0.05) >= ratio, name
