"""A matplotlib figure under a heading, exported as SVG in the colours of the page.

Figures are drawn in the light theme's colours; the export replaces these by the CSS variables of
palette.css, so that a plot follows the theme of its page or, as a file, of its reader.
"""

from __future__ import annotations

import importlib.util
import io
import re
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from gendataagent.report.html_document import palette
from gendataagent.report.markup import esc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, MARGIN = 400, 16  # px, which are points at matplotlib's 72 dpi
INNER = WIDTH - 2 * MARGIN
SHOWN_WIDTH = 460  # px of a file where the page sets no width
TITLE_PX, TEXT_PX, SMALL_PX = 15, 13, 12
_LETTER = 0.58  # mean width of a letter as a share of its size


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One plot.

    Args:
        name: of its file, without ending.
        description: the figures as text, for readers who do not see the plot.
        notes: sentences shown below it.
        height: in px, at a width of `WIDTH`.
        body: SVG elements.
    """

    name: str
    title: str
    description: str
    notes: tuple[str, ...]
    height: float
    body: str

    def inline(self) -> str:
        """Return it for a page that has the style of `plots_style`."""
        return self._svg("", "")

    def file(self) -> str:
        """Return it as a file of its own."""
        size = f'width="{SHOWN_WIDTH}" height="{self.height * SHOWN_WIDTH / WIDTH:.0f}" '
        return self._svg(size, f"<style>{palette()}{plots_style()}</style>") + "\n"

    def _svg(self, size: str, style: str) -> str:
        title, description = f"plot-{self.name}-title", f"plot-{self.name}-description"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'{size}class="plot" viewBox="0 0 {WIDTH} {self.height:g}" role="img" '
            f'aria-labelledby="{title} {description}"><title id="{title}">{esc(self.title)}</title>'
            f'<desc id="{description}">{esc(self.description)}</desc>{style}'
            f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" '
            f'height="{self.height - 1:g}" rx="10"/>{self.body}</svg>'
        )


def can_plot() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def plots_style() -> str:
    """Return the CSS of plots; most of its colours are those of the palette."""
    own = resources.files("gendataagent.experiments.plots")
    return own.joinpath("plots.css").read_text("utf-8")


def light_colours() -> dict[str, str]:
    """Return name -> colour of the light theme, of palette.css and plots.css."""
    light = "".join(css.partition("@media")[0] for css in (palette(), plots_style()))
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))


def plot(
    draw: Callable[[Axes, dict[str, str]], None],
    *,
    name: str,
    title: str,
    subtitle: str,
    figures: str,
    height: float,
    notes: tuple[str, ...] = (),
    left: float = MARGIN,
    above: float = 0,
    below: float = 46,
) -> Plot:
    """Return a plot of one pair of axes under a heading.

    Args:
        draw: puts marks on the axes, given the colours by name.
        figures: what the plot shows as text; with the subtitle, the description.
        height, left, above, below: of the axes, and of the room around them, in px.
    """
    import matplotlib
    from matplotlib.figure import Figure

    colours = light_colours()
    settings: Any = {
        "svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False,
        "font.sans-serif": ["DejaVu Sans"], "font.size": SMALL_PX, "text.color": colours["quiet"],
        "axes.labelcolor": colours["quiet"], "xtick.labelcolor": colours["quiet"],
        "ytick.labelcolor": colours["quiet"], "xtick.major.size": 0, "ytick.major.size": 0,
        "axes.axisbelow": True, "grid.color": colours["rule"], "xaxis.labellocation": "right",
        "legend.frameon": False, "legend.borderaxespad": 0, "legend.handlelength": 2.6,
    }  # fmt: skip
    heading = [(line, TITLE_PX) for line in _wrapped(title, TITLE_PX)]
    heading += [(line, SMALL_PX) for line in _wrapped(subtitle, SMALL_PX)]
    y = float(MARGIN)
    total = round(y + sum(1.4 * px for _, px in heading) + 14 + above + height + below)
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH / 72, total / 72), dpi=72)
        figure.patch.set_visible(False)
        for line, px in heading:
            y += 1.4 * px
            style: Any = {"weight": "bold", "color": colours["ink"]} if px == TITLE_PX else {}
            figure.text(MARGIN / WIDTH, 1 - (y - 4) / total, line, size=px, **style)
        width = (WIDTH - left - MARGIN) / WIDTH
        box = (left / WIDTH, below / total, width, height / total)
        draw(figure.add_axes(box, frameon=False), colours)
        body = _svg_body(figure, name, colours)
    return Plot(
        name=name, title=title, description=f"{subtitle} {figures}", notes=notes, height=total,
        body=body,
    )  # fmt: skip


def _wrapped(content: str, px: float) -> list[str]:
    return textwrap.wrap(content, int(INNER / (px * _LETTER)))


def fitted(content: str, width: float, px: float = TEXT_PX) -> str:
    """Return a text, shortened in its middle to fit a width in px."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font, shown = FontProperties(size=px), content
    for keep in range(len(content) - 1, -1, -1):
        if text_to_path.get_text_width_height_descent(shown, font, ismath=False)[0] <= width:
            break
        shown = f"{content[: (keep + 1) // 2]}…{content[len(content) - keep // 2 :]}"
    return shown


def _svg_body(figure: Figure, name: str, colours: dict[str, str]) -> str:
    """Return the SVG elements of a figure.

    Colours become variables of the palette, an id that was set (`gid`) a class; of all other ids
    only those that are referred to stay, with the plot's name before them: a page holds many plots.
    """
    stream = io.BytesIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", metadata=nothing)
    svg = stream.getvalue().decode()
    body = svg[svg.index('<g id="figure_1">') : svg.rindex("</svg>")]
    body = re.sub(r"<style.*?</style>|<!--.*?-->|\n\s*", "", body, flags=re.DOTALL)
    variables = {value: f"var(--{key})" for key, value in colours.items()}
    referred = set(re.findall(r'(?:url\(|href=")#(\w+)', body))

    def new_id(match: re.Match[str]) -> str:
        if match[1] in referred:
            return f' id="{name}-{match[1]}"'
        return "" if re.search(r"_\d+$|^m\w{10}$", match[1]) else f' class="{match[1]}"'

    def clean(match: re.Match[str]) -> str:
        tag = re.sub(r"#[0-9a-f]{6}\b", lambda m: variables.get(m[0], m[0]), match[0])
        tag = re.sub(r"(\.\d\d)\d+", r"\1", tag)
        tag = re.sub(r' id="([^"]+)"', new_id, tag)
        tag = re.sub(r'((?:url\(|href=")#)', rf"\g<1>{name}-", tag)
        return re.sub(r" font-family: [^;\"]*;| transform=\"rotate\(-0 [^\"]*\"| (?=/?>)", "", tag)

    return re.sub(r"<g/>|<g></g>", "", re.sub(r"<[^>]*>", clean, body))
