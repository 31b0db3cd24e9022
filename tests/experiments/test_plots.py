"""Plots: marks where the figures say, nothing drawn that was not measured, readable by all."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import pytest

from gendataagent.experiments.plots import Plot, plot_sections
from gendataagent.experiments.plots.figure import WIDTH, fitted, light_colours, plots_style
from gendataagent.experiments.plots.ranges import enclosing
from gendataagent.experiments.plots.series import images_to_reach, series_groups
from gendataagent.experiments.tables import typographic
from gendataagent.report.html_document import palette

from .made_up import efficiency_rows, rows_of

SVG = "{http://www.w3.org/2000/svg}"
ROWS = rows_of({"base": [0.4, 0.5, 0.6], "up": [0.5, 0.62, 0.7], "same": [0.5, 0.4, 0.6]})


def section(heading: str, rows: Sequence[dict[str, object]], baseline: str = "base") -> list[Plot]:
    return list(plot_sections(rows, baseline).get(heading, ()))


def groups(plot: Plot, css: str) -> list[ElementTree.Element]:
    """The groups of a class in a plot's file."""
    root = ElementTree.fromstring(plot.file())
    return [group for group in root.iter(f"{SVG}g") if group.get("class") == css]


def marks(group: ElementTree.Element) -> list[tuple[float, float]]:
    """Where the markers of a group are, in px."""
    uses = group.iter(f"{SVG}use")
    return [(float(use.attrib["x"]), float(use.attrib["y"])) for use in uses]


def paths(plot: Plot, css: str) -> list[list[tuple[float, float]]]:
    """The corners of each path of the groups of a class, in px."""
    found = [path.attrib["d"] for group in groups(plot, css) for path in group.iter(f"{SVG}path")]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.-]+) ([\d.-]+)", d)] for d in found]


def words(plot: Plot) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(plot.file()).iter(f"{SVG}text")]


def test_a_difference_is_drawn_where_its_figures_say() -> None:
    plot = section("Differences", ROWS)[0]
    root = ElementTree.fromstring(plot.file())
    ticks = {t.text: float(t.attrib["x"]) for t in root.iter(f"{SVG}text") if t.text}
    zero = paths(plot, "zero")[0][0][0]
    assert ticks["0"] == zero
    point = (ticks["+10"] - zero) / 10
    means = [mark[0] for group in groups(plot, "mean") for mark in marks(group)]
    assert means == pytest.approx([zero + 10.667 * point, zero], abs=0.5)
    seeds = [mark[0] for mark in marks(groups(plot, "seed")[0])]
    expected = [zero + d * point for d in (10, 12, 10, 10, -10, 0)]
    assert seeds == pytest.approx(expected, abs=0.5)
    half = 4.3027 * math.sqrt(4 / 3) / math.sqrt(3)
    interval = [x for x, _ in paths(plot, "interval")[0]]
    expected = [zero + (10.667 - half) * point, zero + (10.667 + half) * point]
    assert interval == pytest.approx(expected, abs=0.5)


def test_an_interval_without_zero_has_a_star_and_a_filled_mark_besides_its_colour() -> None:
    plot = section("Differences", ROWS)[0]
    up, same = groups(plot, "mean")
    filled = [next(group.iter(f"{SVG}use")).attrib["style"] for group in (up, same)]
    assert filled == ["fill: var(--kept); stroke: var(--kept); stroke-width: 2",
                      "fill: var(--card); stroke: var(--quiet); stroke-width: 2"]  # fmt: skip
    assert "+10.7 [+7.8, +13.5] * (n 3)" in words(plot)
    assert "up +10.7 [+7.8, +13.5], excludes zero, (n 3)" in plot.description
    below = section("Differences", ROWS, "up")[0]
    assert "stroke: var(--refused)" in below.body


def test_a_very_wide_interval_ends_in_an_arrow_inside_the_plot() -> None:
    rows = rows_of({"base": [0.4, 0.4], "a": [0.41, 0.45], "b": [0.41, 0.411]})
    plot = section("Differences", rows)[0]
    arrows = [mark for group in groups(plot, "cut") for mark in marks(group)]
    assert len(arrows) == 2
    assert all(10 <= x <= WIDTH - 10 for x, _ in arrows)
    assert any("arrow head" in note for note in plot.notes)


def test_one_seed_is_drawn_without_interval_and_says_so() -> None:
    rows = rows_of({"base": [0.4], "a": [0.5], "b": [0.3]})
    plot = section("Differences", rows)[0]
    assert paths(plot, "interval") == []
    assert sum(len(marks(group)) for group in groups(plot, "mean")) == 2
    assert groups(plot, "seed") == []
    assert "One shared seed: no intervals" in plot.notes[0]
    shown = " ".join(words(plot))
    assert "no interval" in shown
    assert "95 %" not in shown
    assert "no spread" in " ".join(words(section("Means", rows)[0]))


def test_an_arm_that_shares_no_seed_with_the_baseline_is_named_in_a_note() -> None:
    rows = rows_of({"base": [0.4, 0.4, math.nan], "a": [0.5, 0.52], "late": [math.nan] * 2 + [0.5]})
    plot = section("Differences", rows)[0]
    assert "late" not in words(plot)
    assert plot.notes == ("Left out, as they share no seed with base: late.",)
    assert section("Differences", rows, "unknown") == []


def test_values_that_are_not_finite_are_never_drawn() -> None:
    rows = rows_of({"base": [0.4, 0.5], "a": [0.5, 0.6], "x-1": [0.5, 0.5], "x-2": [0.5, 0.6]})
    rows[2]["top1"] = math.nan
    rows.append({**rows[0], "arm": "never", "top1": math.nan, "worst_class": None})
    plots = [plot for plots in plot_sections(rows, "base").values() for plot in plots]
    assert len(plots) == 7
    for plot in plots:
        assert not re.search(r"\b(nan|inf)\b", plot.file(), re.IGNORECASE)
        assert "never" not in plot.file()
    assert section("Means", [rows[-1]]) == []
    assert section("Cost", rows[:2]) == []


def test_equal_values_are_drawn_with_room_around_them() -> None:
    rows = rows_of({"base": [0.4, 0.4], "a": [0.4, 0.4]})
    for plots in plot_sections(rows, "base").values():
        for plot in plots:
            assert len({word for word in words(plot) if re.fullmatch(r"[+−]?[\d.]+", word)}) >= 2


def test_series_are_recognised_by_the_names_of_arms() -> None:
    values = {arm: [0.5] for arm in (
        "real-fake", "strength-0.50", "strength-0.9", "vog-high-0.25", "vog-high-0.75",
        "random-0.25", "random-0.75", "lonely-0.1", "guidance 3", "guidance 7.5", "top-5",
    )}  # fmt: skip
    groups = series_groups(rows_of(values), "top1")
    names = [[series.name for series in group] for group in groups]
    assert names == [["strength"], ["vog-high", "random"], ["guidance"]]
    assert [point.at for point in groups[2][0].points] == [3.0, 7.5]


def test_series_by_images_are_drawn_at_their_generated_images() -> None:
    nothing = rows_of({"none-x1": [0.5], "none-x2": [0.5]}, generated={"none-x1": 0, "none-x2": 9})
    (group,) = series_groups([*efficiency_rows(), *nothing], "top1")
    assert [series.name for series in group] == ["a", "b"]
    assert [point.at for point in group[0].points] == [200, 400, 800, 1600]
    plot = section("Sweeps", efficiency_rows(), "real")[0]
    places = [x for x, _ in marks(groups(plot, "mean")[0])]
    steps = [right - left for left, right in itertools.pairwise(places)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)  # doubling is a step: logarithmic
    assert len(groups(plot, "band")) == 2
    assert len(groups(plot, "baseline")) == 1
    assert "real, mean" in words(plot)
    assert not any("continues" in note for note in plot.notes)
    wide = section("Sweeps", rows_of({"s-1": [0.40, 0.41], "s-2": [0.40, 0.48]}), "real")[0]
    assert wide.notes == ("A band that ends at an edge continues beyond it.",)


def test_where_a_series_reaches_the_best_of_another() -> None:
    (group,) = series_groups(efficiency_rows(), "top1")
    points = group[1].points
    assert images_to_reach(points, 0.55) == pytest.approx(math.sqrt(400 * 800))
    assert images_to_reach(points, 0.3) == 200
    assert images_to_reach(points, 0.71) is None
    notes = " ".join(section("Sweeps", efficiency_rows(), "real")[0].notes)
    assert "a does not reach the best mean of b (70.0 % at 1,600 images, n 3)" in notes
    assert "b reaches the best mean of a (50.0 % at 1,600 images, n 3) at about 400 images" in notes
    assert "25% as many; at 400 images its paired difference to that best is " in notes
    assert "within noise" in notes


def test_a_curve_of_one_seed_has_no_band() -> None:
    rows = [row for row in efficiency_rows() if row["seed"] == 0 or row["arm"].startswith("a")]
    plot = section("Sweeps", rows, "real")[0]
    assert [len(list(group.iter(f"{SVG}use"))) for group in groups(plot, "band")] in ([1], [1, 0])
    assert plot.notes[0] == "One seed, no band: b-x1, b-x2, b-x4, b-x8."
    single = [row for row in efficiency_rows() if row["seed"] == 0]
    assert section("Sweeps", single, "real")[0].notes[0] == "One seed: no bands."


def test_the_numbers_of_a_crowd_do_not_overlap() -> None:
    rows = rows_of({f"arm{n:02}": [0.5 + n / 1000] for n in range(14)} | {"alone": [0.6]})
    plot = section("Cost", rows)[0]
    texts = [text for group in groups(plot, "number") for text in group.iter(f"{SVG}text")]
    numbers = [(float(text.attrib["x"]), float(text.attrib["y"])) for text in texts]
    assert len(numbers) == 15
    for one, other in itertools.combinations(numbers, 2):
        assert abs(one[0] - other[0]) > 12 or abs(one[1] - other[1]) > 9


def test_the_cost_is_that_of_a_run_on_its_own_where_all_arms_have_it() -> None:
    rows = rows_of({"a": [0.5], "b": [0.6]}, seconds_alone={"a": 7.0, "b": 9.0})
    (plot,) = section("Cost", rows)
    assert "50.0 % in 7 s" in plot.description
    assert "on its own" in plot.notes[0]
    del rows[0]["seconds_alone"]
    (plot,) = section("Cost", rows)
    assert "50.0 % in 101 s" in plot.description
    assert "Wall-clock" in plot.notes[0]


def all_plots() -> list[Plot]:
    sections = [*plot_sections(ROWS, "base").values()]
    return [plot for plots in (*sections, section("Sweeps", efficiency_rows(), "real"))
            for plot in plots]  # fmt: skip


def test_a_file_is_self_contained_and_described() -> None:
    for plot in all_plots():
        root = ElementTree.fromstring(plot.file())
        title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
        assert title is not None
        assert description is not None
        assert root.attrib["aria-labelledby"].split() == [title.get("id"), description.get("id")]
        assert len(description.text or "") > 60
        assert "prefers-color-scheme: dark" in plot.file()
        outside = re.sub(r'xmlns(:xlink)?="[^"]+"', "", plot.file())
        assert not re.search(r"https?:|@import|url\((?!#)|href=\"(?!#)", outside)
        assert "<style" not in plot.inline()
        drawn_to = [float(e.attrib["y"]) for e in root.iter(f"{SVG}text") if "y" in e.attrib]
        assert max(drawn_to) < plot.height


def test_a_page_with_all_plots_has_every_id_once_and_no_fixed_colour() -> None:
    bodies = "".join(plot.inline() for plot in all_plots())
    ids = re.findall(r' id="([^"]+)"', bodies)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([\w-]+)', bodies)) <= set(ids)
    assert not re.search(r"#[0-9a-f]{6}\b(?![\w-]*[\")])", bodies)


def test_the_same_rows_are_drawn_to_the_same_bytes() -> None:
    assert [plot.file() for plot in all_plots()] == [plot.file() for plot in all_plots()]


def test_no_grid_line_runs_through_a_text() -> None:
    """The ground behind a row's texts is drawn after the grid and before the texts."""
    body = section("Differences", ROWS)[0].body
    assert body.index("var(--rule)") < body.index("fill: var(--card)") < body.index(">up<")


def test_names_fit_and_are_escaped() -> None:
    long = "W" * 80 + "<&>" + "é" * 80
    plot = section("Differences", rows_of({"base": [0.4, 0.5], long: [0.5, 0.7]}))[0]
    (text,) = [word for word in words(plot) if "…" in word]
    assert text == fitted(text, WIDTH / 2)
    named = section("Means", rows_of({"<a & b>": [0.5], "$x_1$": [0.6], "名": [0.6]}))[0]
    assert {"<a & b>", "$x_1$", "名"} <= set(words(named))
    assert fitted("short", 100) == "short"
    assert fitted("abcdefghij", 50) == "abc…ij"
    assert fitted("abc", 1) == "…"


def test_numbers_have_a_real_minus_and_names_keep_their_hyphens() -> None:
    assert typographic("-1.0 [-2.0, +3.0]") == "\u22121.0 [\u22122.0, +3.0]"
    assert typographic("minus vog-0.25") == "minus vog-0.25"


def test_ranges_hold_points_and_nearby_ends() -> None:
    assert enclosing([1, 2], [1.5, 2.5]) == (1, 2.5)
    assert enclosing([1, 2], [-99, 99]) == (-0.5, 3.5)
    assert enclosing([0.1, 0.9], [-0.3, 1.4], limits=(0, 1)) == (0, 1)
    assert enclosing([math.nan, 1], [math.inf, -math.inf]) == (1, 1)


def colours(theme: str) -> dict[str, str]:
    """The colours of a theme by name, of palette and plots."""
    found = light_colours()
    for css in (palette(), plots_style()) if theme == "dark" else ():
        dark = css.partition("prefers-color-scheme: dark")[2]
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark))
    return found


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(w * value for w, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_and_marks_contrast_with_their_ground(theme: str) -> None:
    named = colours(theme)
    ground = luminance(named["card"])
    at_least = {"ink": 4.5, "quiet": 4.5, "kept": 3, "refused": 3, "agent": 3, "real": 3}
    at_least |= {f"series-{n}": 3 for n in range(1, 5)}
    for name, ratio in at_least.items():
        low, high = sorted((luminance(named[name]), ground))
        assert (high + 0.05) / (low + 0.05) >= ratio, name
