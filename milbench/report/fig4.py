"""Figure 4: AUROC against the number of experts, and against the number of tasks learned together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.report.figures import STUDIED, blank_figure
from milbench.report.looks import styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 0.62
"""Of a group of boxes, where groups are one apart."""

FILLS = {STUDIED: "0.80"}
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
    _legend(figure, axes, rows)
    return figure


def tasks_figure(rows: pd.DataFrame, title: str) -> Figure:
    """AMIL and M4 by number of tasks; `rows` are one dataset's of `tasks_table`.

    Left, each number is scored on its own tasks, so the groups differ in difficulty. Right, all are scored on the
    tasks of the smallest number, so that M4's boxes differ in what else it has learned only.
    """
    figure, (own, same) = _two_axes(f"{title}: test AUROC by number of tasks that M4 learns together")
    numbers = sorted(rows["tasks"].unique())
    _grouped(own, rows, rows, numbers)
    smallest = rows[rows["tasks"] == numbers[0]]
    shared = rows[rows["task"].isin(set(smallest["task"]))]
    m4 = shared[shared["model"] == STUDIED]
    _grouped(same, pd.concat([smallest[smallest["model"] != STUDIED].assign(tasks=0), m4]), rows, [0, *numbers])
    own.set_xticks(range(len(numbers)), _labels(numbers))
    same.set_xticks(range(len(numbers) + 1), ["one", *_labels(numbers)])
    own.set_xlabel("scored on these tasks")
    same.set_xlabel(f"all scored on the top {numbers[0]}")
    _legend(figure, same, rows)
    return figure


def _grouped(axes: Any, rows: pd.DataFrame, every: pd.DataFrame, numbers: Sequence[int]) -> None:
    """Boxes side by side for every number; a number with one model gets one box in its middle."""
    for position, number in enumerate(numbers):
        here = rows[rows["tasks"] == number]
        models = list(dict.fromkeys(here["model"]))
        for place, model in enumerate(models):
            width = WIDTH / len(models)
            middle = position + (place - (len(models) - 1) / 2) * (width + 0.06)
            _boxes(axes, middle, min(width, 0.4), here[here["model"] == model], every)


def _labels(numbers: Sequence[int]) -> list[str]:
    return [f"top {number}" for number in numbers[:-1]] + [f"all {numbers[-1]}"]


def _two_axes(title: str) -> tuple[Figure, tuple[Any, Any]]:
    figure = blank_figure((9.4, 4.4))
    own, same = figure.add_axes((0.07, 0.13, 0.365, 0.77)), figure.add_axes((0.465, 0.13, 0.365, 0.77))
    same.sharey(own)
    same.tick_params(labelleft=False)
    for axes in (own, same):
        axes.axhline(0.5, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    own.set_ylabel("test AUROC")
    figure.text(0.45, 0.94, title, ha="center", fontsize=11)
    return figure, (own, same)


def _axes(title: str) -> tuple[Figure, Any]:
    figure = blank_figure((8.0, 4.4))
    axes: Any = figure.add_axes((0.085, 0.13, 0.715, 0.77))
    axes.axhline(0.5, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_ylabel("test AUROC")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=11, y=1.0)
    return figure, axes


def _boxes(axes: Any, position: float, width: float, rows: pd.DataFrame, every: pd.DataFrame) -> None:
    """One box with its scores as dots and its mean as a diamond."""
    if rows.empty:
        return
    model = str(rows["model"].iloc[0])
    values = rows["score"].to_numpy(dtype=float)
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


def _legend(figure: Figure, axes: Any, rows: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    titles: Sequence[tuple[str, str]] = list(dict.fromkeys(zip(rows["model"], rows["title"], strict=True)))
    looks = styles([model for model, _ in titles])
    entries: list[Any] = [
        Patch(facecolor=FILLS.get(model, "white"), edgecolor="black", linewidth=0.9, label=title)
        for model, title in titles
    ]
    entries += [Line2D([], [], linestyle="", marker="o", markersize=3.5, color=looks[model]["color"],
                       label=f"{title}, each score") for model, title in titles]  # fmt: skip
    entries.append(
        Line2D([], [], linestyle="", marker="D", markerfacecolor="white", markeredgecolor="black", label="mean")
    )
    figure.legend(
        handles=entries,
        loc="center left",
        bbox_to_anchor=(axes.get_position().x1 + 0.005, 0.5),
        frameon=False,
        fontsize=8,
    )
