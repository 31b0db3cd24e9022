"""Rows of results as SVG drawings, by hand: no plotting library is needed to read an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gendataagent.experiments.plots.canvas import Plot, plots_style
from gendataagent.experiments.plots.cost import cost_plot
from gendataagent.experiments.plots.rows import difference_plot, means_plot
from gendataagent.experiments.plots.sweeps import sweep_plots
from gendataagent.experiments.tables import COMPARED

__all__ = ["Plot", "cost_plots", "difference_plots", "mean_plots", "plots_style", "sweep_plots_of"]

Rows = Sequence[Mapping[str, Any]]


def difference_plots(rows: Rows, baseline: str) -> tuple[Plot, ...]:
    """Return the paired differences to a baseline, a plot for each compared measure."""
    found = (difference_plot(rows, key, baseline) for key in COMPARED)
    return tuple(plot for plot in found if plot is not None)


def mean_plots(rows: Rows) -> tuple[Plot, ...]:
    """Return the means of all arms, a plot for each compared measure."""
    return tuple(plot for key in COMPARED if (plot := means_plot(rows, key)) is not None)


def sweep_plots_of(rows: Rows, baseline: str) -> tuple[Plot, ...]:
    """Return curves of the arms that are one thing at several values, if there are any."""
    return tuple(plot for key in COMPARED for plot in sweep_plots(rows, key, baseline))


def cost_plots(rows: Rows) -> tuple[Plot, ...]:
    """Return the first compared measure against seconds."""
    plot = cost_plot(rows, COMPARED[0])
    return () if plot is None else (plot,)
