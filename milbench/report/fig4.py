"""Figure 4: AUROC against the number of experts, and against the number of tasks learned together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.report.figures import EMPHASISED, blank_figure, styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 0.62
"""Of a group of boxes, where groups are one apart."""

FILLS = {EMPHASISED: "0.80"}
"""Grey of the boxes; the other model's are white, so that paper without colour tells them apart."""


def experts_figure(rows: pd.DataFrame, title: str) -> Figure:
    """One box of AMIL and one of M4 for every number of experts; `rows` are one dataset's of `experts_table`."""
    numbers = sorted(rows["experts"].dropna().unique())
    figure, axes = _axes(f"{title}: test AUROC by number of experts")
    reference = rows[rows["experts"].isna()]
    for position, number in enumerate(numbers, start=1):
        _boxes(axes, position, WIDTH, rows[rows["experts"] == number], rows)
    labels = [str(number) for number in numbers]
    if len(reference):
        _boxes(axes, 0, WIDTH, reference, rows)
        labels = ["none", *labels]
    axes.set_xticks(range(1 - bool(len(reference)), len(numbers) + 1), labels)
    axes.set_xlabel("experts")
    _legend(figure, rows)
    return figure


def tasks_figure(rows: pd.DataFrame, title: str) -> Figure:
    """Boxes of AMIL and M4 side by side for every number of tasks; `rows` are one dataset's of `tasks_table`."""
    numbers = sorted(rows["tasks"].unique())
    models = list(dict.fromkeys(rows["model"]))
    figure, axes = _axes(f"{title}: test AUROC by number of tasks that M4 learns together")
    width = WIDTH / len(models)
    for position, number in enumerate(numbers):
        for place, model in enumerate(models):
            here = rows[(rows["tasks"] == number) & (rows["model"] == model)]
            _boxes(axes, position + (place - (len(models) - 1) / 2) * (width + 0.06), width, here, rows)
    axes.set_xticks(range(len(numbers)), [f"top {number}" for number in numbers[:-1]] + [f"all {numbers[-1]}"])
    axes.set_xlabel("tasks, by number of positive patients; both models are scored on the same ones", fontsize=9)
    _legend(figure, rows)
    return figure


def _axes(title: str) -> tuple[Figure, Any]:
    figure = blank_figure((7.6, 4.4))
    axes: Any = figure.add_axes((0.09, 0.13, 0.69, 0.77))
    axes.axhline(0.5, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_ylabel("test AUROC")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=11)
    return figure, axes


def _boxes(axes: Any, position: float, width: float, rows: pd.DataFrame, every: pd.DataFrame) -> None:
    """One box with its scores as dots and its mean as a diamond."""
    if rows.empty:
        return
    model = str(rows["model"].iloc[0])
    values = rows["auroc"].to_numpy(dtype=float)
    look = styles(list(dict.fromkeys(every["model"])))[model]
    axes.boxplot(
        [values], positions=[position], widths=width, showfliers=False, showmeans=True, patch_artist=True, manage_ticks=False,
        boxprops={"facecolor": FILLS.get(model, "white"), "linewidth": 0.9}, medianprops={"color": "0.1", "linewidth": 1.2},
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 6, "zorder": 5},
    )  # fmt: skip
    axes.scatter(
        position + _spread(width, len(values)), values, s=9, color=look["color"], alpha=0.6, linewidths=0, zorder=3
    )


def _spread(width: float, count: int) -> NDArray[np.float64]:
    """Offsets of dots, even and in the order of the rows, so that no chance enters."""
    return np.linspace(-0.38, 0.38, count) * width if count > 1 else np.zeros(count)


def _legend(figure: Figure, rows: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    titles = dict(zip(rows["model"], rows["title"], strict=True))
    entries: list[Any] = [
        Patch(facecolor=FILLS.get(model, "white"), edgecolor="black", linewidth=0.9, label=title)
        for model, title in titles.items()
    ]
    dots: dict[str, Any] = {
        "linestyle": "",
        "marker": "o",
        "markersize": 3.5,
        "color": "0.35",
        "label": "one task, one fold",
    }
    mean: dict[str, Any] = {
        "linestyle": "",
        "marker": "D",
        "markerfacecolor": "white",
        "markeredgecolor": "black",
        "label": "mean",
    }
    entries += [Line2D([], [], **dots), Line2D([], [], **mean)]
    figure.legend(handles=entries, loc="center left", bbox_to_anchor=(0.79, 0.5), frameon=False, fontsize=8)
