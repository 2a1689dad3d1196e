"""Confusion: which class, or grade, the test slides of each have been called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from milbench.endpoints.answers import decoded_grade
from milbench.metrics import predicted_class
from milbench.report.answered import Answered, Panel
from milbench.report.panel_grid import Room, panel_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Counts = NDArray[np.int64]

NOTE = (
    "Every test slide is called once, by the mean of its answers over folds and seeds: {}. Rows are the labels. A cell "
    "shows its share of the row and the number of slides."
)
CALLED = {
    "multiclass": "the most probable class",
    "ordinal": "the expected grade, rounded, a half upwards",
}
MOST_CLASSES = 8
"""Classes beyond which numbers in cells are too small to read; colours remain."""

LONGEST_LEVEL_NAME = 4
"""Letters of a class beyond which names along the axis are turned."""


def confusion(tested: Answered) -> Counts:
    """Counts [C, C] of slides: rows are the labels, columns the calls."""
    n_classes = len(tested.fitted.endpoint.classes)
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(counts, (tested.targets.astype(int), calls(tested).astype(int)), 1)
    return counts


def calls(tested: Answered) -> NDArray[np.float64]:
    """The class, or grade, that each slide is called [n]."""
    if tested.fitted.kind == "ordinal":
        return decoded_grade(tested.answers[:, 0], len(tested.fitted.endpoint.classes))
    return np.asarray(predicted_class(tested.answers), dtype=float)


def confusion_figure(
    tested: Mapping[Panel, Answered], panels: Sequence[Panel], heads: Mapping[Panel, str], title: str
) -> Figure:
    """One matrix per task and model, each row as shares.

    Parameters
    ----------
    heads : title of each panel.
    """
    longest = max(len(name) for panel in panels for name in tested[panel].fitted.endpoint.classes)
    names = min(0.055 * longest, 1.2)
    room = Room(left=0.55 + names, bottom=0.45 + 0.7 * names, top=0.5, right=0.25)
    figure, every = panel_grid([task for task, _ in panels], title, room)
    for axes, panel in zip(every, panels, strict=True):
        classes = tested[panel].fitted.endpoint.classes
        _matrix(axes, confusion(tested[panel]), classes)
        axes.set_title(heads[panel], fontsize=8.5, pad=4, y=1.0)
        axes.set_xlabel("called", fontsize=8)
        axes.set_ylabel("label", fontsize=8)
    return figure


def _matrix(axes: Any, counts: Counts, classes: Sequence[str]) -> None:
    of_row = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, of_row, out=np.zeros(counts.shape), where=of_row > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if len(classes) <= MOST_CLASSES:
        for (row, column), share in np.ndenumerate(shares):
            text = f"{share:.2f}\n{counts[row, column]}" if of_row[row, 0] else "–"
            axes.text(column, row, text, ha="center", va="center", fontsize=8 if len(classes) <= 4 else 6,
                      color="white" if share > 0.6 else "black")  # fmt: skip
    few = len(classes) <= MOST_CLASSES
    size, turned = (7.5, 30) if few else (5.5, 90)
    turned = turned if max(map(len, classes)) > LONGEST_LEVEL_NAME else 0
    axes.set_xticks(
        range(len(classes)), classes, fontsize=size, rotation=turned, ha="right" if turned == 30 else "center"
    )
    axes.set_yticks(range(len(classes)), classes, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_color("0.8")
