"""Predicted values: what a model said of each test slide against what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from milbench.report.answered import Answered, Panel
from milbench.report.looks import styles
from milbench.report.panel_grid import Room, panel_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "One dot per test slide: mean of its predictions over folds and seeds, in the units of the labels. On the line the two "
    "are equal."
)


def ends_of(tested: Sequence[Answered]) -> tuple[float, float]:
    """Ends of both axes: all labels and predictions of a task, whichever model made them."""
    values = np.concatenate([np.concatenate([one.targets, one.answers[:, 0]]) for one in tested])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def scatter_figure(
    tested: Mapping[Panel, Answered], panels: Sequence[Panel], heads: Mapping[Panel, str], title: str
) -> Figure:
    """One panel per task and model: measured against predicted, with the line on which they are equal.

    Parameters
    ----------
    heads : title of each panel.
    """
    looks = styles(list(dict.fromkeys(model for _, model in panels)))
    figure, every = panel_grid([task for task, _ in panels], title, Room(left=0.65, top=0.5))
    for axes, (task, model) in zip(every, panels, strict=True):
        ends = ends_of([tested[panel] for panel in panels if panel[0] == task])
        one = tested[task, model]
        axes.plot(ends, ends, color="0.6", linewidth=0.9, linestyle="--", zorder=0)
        axes.scatter(one.targets, one.answers[:, 0], s=12, alpha=0.6, linewidths=0, color=looks[model]["color"])
        axes.set(xlim=ends, ylim=ends)
        axes.locator_params(nbins=5)
        axes.set_title(heads[task, model], fontsize=8.5, pad=4)
        axes.set_xlabel("measured", fontsize=8)
        axes.set_ylabel("predicted", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
