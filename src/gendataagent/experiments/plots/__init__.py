"""Plots of an experiment's rows as SVG, drawn by matplotlib (extra `plots`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gendataagent.experiments.plots.cost import cost_plot
from gendataagent.experiments.plots.figure import Plot, can_plot, plots_style
from gendataagent.experiments.plots.rows import difference_plot, means_plot
from gendataagent.experiments.plots.sweeps import sweep_plots
from gendataagent.experiments.tables import COMPARED

__all__ = ["INSTALL", "Plot", "can_plot", "plot_sections", "plots_style"]

INSTALL = "pip install 'gendataagent[plots]'"


def plot_sections(rows: Sequence[Mapping[str, Any]], baseline: str) -> dict[str, tuple[Plot, ...]]:
    """Return heading -> plots; headings without a plot are left out.

    Raises:
        ImportError: matplotlib is missing (`can_plot` is false).
    """
    sections: dict[str, list[Plot | None]] = {
        "Differences": [difference_plot(rows, key, baseline) for key in COMPARED],
        "Means": [means_plot(rows, key) for key in COMPARED],
        "Sweeps": [plot for key in COMPARED for plot in sweep_plots(rows, key, baseline)],
        "Cost": [cost_plot(rows, COMPARED[0])],
    }
    found = {
        heading: tuple(plot for plot in plots if plot is not None)
        for heading, plots in sections.items()
    }
    return {heading: plots for heading, plots in found.items() if plots}
