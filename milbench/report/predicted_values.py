"""Predicted values: what a model said of each test slide against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from milbench.report.answered import Answered
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


class Scatter(NamedTuple):
    """One panel: what a model said of a task, and the panel's title."""

    task: str
    model: str
    head: str
    tested: Answered


def scatter_figure(panels: Sequence[Scatter], title: str) -> Figure:
    """Per panel measured against predicted, with the line on which they are equal; panels of a task have the same axes."""
    looks = styles(list(dict.fromkeys(panel.model for panel in panels)))
    figure, every = panel_grid([panel.task for panel in panels], title, Room(left=0.65, top=0.5))
    for axes, (task, model, head, one) in zip(every, panels, strict=True):
        ends = ends_of([panel.tested for panel in panels if panel.task == task])
        axes.plot(ends, ends, color="0.6", linewidth=0.9, linestyle="--", zorder=0)
        axes.scatter(one.targets, one.answers[:, 0], s=12, alpha=0.6, linewidths=0, color=looks[model]["color"])
        axes.set(xlim=ends, ylim=ends)
        axes.locator_params(nbins=5)
        axes.set_title(head, fontsize=8.5, pad=4, y=1.0)
        axes.set_xlabel("measured", fontsize=8)
        axes.set_ylabel("predicted", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
