"""Plots: expert usage as a clustered heatmap, and deletion and insertion curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from milbench.heatmap.experts import ExpertUsage
from milbench.report.figures import blank_figure, plain_names
from milbench.report.looks import styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = "viridis"


@plain_names()  # seaborn draws the figure while it makes it
def usage_figure(usage: ExpertUsage) -> Figure:
    """Gate weights, tasks and experts put in the order of their clusters, beside the overlap of the experts' maps."""
    import seaborn

    n_tasks, n_experts = usage.gates.shape
    width, height = 0.75 * n_experts, 0.36 * max(n_tasks, n_experts)
    figure = blank_figure((2 * width + 4.6, height + 1.7))
    across, down = figure.get_size_inches()
    rows, row_tree = clustered(usage.gates)
    columns, column_tree = clustered(usage.gates.T)
    experts = [usage.experts[i] for i in columns]
    gates = pd.DataFrame(usage.gates[np.ix_(rows, columns)], [_label(usage, row) for row in rows], experts)
    overlap = pd.DataFrame(usage.overlap[np.ix_(columns, columns)], experts, experts)
    left, lower = 1.95 / across, 0.7 / down
    box = (left, lower, width / across, height / down)
    seaborn.heatmap(
        gates, vmin=0, cmap=COLOURS, annot=True, fmt=".2f", annot_kws={"size": 7}, cbar=False, ax=figure.add_axes(box)
    )
    _tree(figure, column_tree, (left, lower + box[3], box[2], 0.25 / down), sideways=False)
    _tree(figure, row_tree, (left + box[2], lower, 0.25 / across, box[3]), sideways=True)
    square = 0.36 * n_experts / down
    second = (left + box[2] + 1.6 / across, lower + box[3] - square, width / across, square)
    seaborn.heatmap(
        overlap, vmin=0, vmax=1, cmap=COLOURS, annot=True, fmt=".2f", annot_kws={"size": 7}, cbar=False,
        ax=figure.add_axes(second),
    )  # fmt: skip
    for axes in (figure.axes[0], figure.axes[-1]):
        axes.tick_params(labelsize=8, length=0, labelrotation=0)
        texts = [label.get_text() for label in axes.get_xticklabels()]
        axes.set_xticks(axes.get_xticks(), texts, rotation=35, ha="right", rotation_mode="anchor")
    figure.text(left, 1 - 0.42 / down, "gate weight (entropy of the task's gate)", fontsize=9)
    figure.text(
        second[0], second[1] + second[3] + 0.1 / down, f"attention shared (chance {usage.chance:.2f})", fontsize=9
    )
    title = f"{usage.title} on {usage.dataset}, fold {usage.fold}, {usage.n_slides} test {usage.bag}s"
    figure.text(0.12 / across, 1 - 0.2 / down, title, fontsize=10, weight="bold")
    return figure


def _label(usage: ExpertUsage, row: int) -> str:
    return f"{usage.tasks[row]} ({usage.entropy[row]:.2f})"


def clustered(rows: Any) -> tuple[list[int], Any]:
    """Order that puts like rows [R, C] side by side, and scipy's drawing of the tree (None for fewer than two rows)."""
    from scipy.cluster.hierarchy import dendrogram, linkage

    if len(rows) < 2:
        return list(range(len(rows))), None
    tree = dendrogram(linkage(rows, "average", optimal_ordering=True), no_plot=True)
    return [int(leaf) for leaf in tree["leaves"]], tree


def _tree(figure: Figure, tree: Any, box: tuple[float, float, float, float], *, sideways: bool) -> None:
    """The tree of `clustered` above a heatmap, or to its right."""
    axes = figure.add_axes(box)
    axes.set_axis_off()
    if tree is None:
        return
    ends = 10 * len(tree["leaves"])  # scipy puts leaves at 5, 15, 25, ...
    for along, heights in zip(tree["icoord"], tree["dcoord"], strict=True):
        axes.plot(*((heights, along) if sideways else (along, heights)), color="0.4", linewidth=0.8)
    if sideways:
        axes.set_ylim(ends, 0)
        axes.set_xlim(left=0)
    else:
        axes.set_xlim(0, ends)
        axes.set_ylim(bottom=0)


def curve_figure(points: pd.DataFrame, dataset: str, bag: str) -> Figure:
    """Deletion and insertion: mean probability over tasks and slides, attention solid, random order dashed.

    Parameters
    ----------
    bag : what a bag is, "slide" or "patient".
    """
    figure = blank_figure((9.6, 3.7))
    titles = dict(zip(points["model"], points["title"], strict=True))
    looks = styles(list(titles))
    for index, (curve, verb) in enumerate((("deletion", "removed"), ("insertion", "shown"))):
        axes: Any = figure.add_axes((0.07 + 0.4 * index, 0.15, 0.34, 0.7))
        means = points[points["curve"] == curve].groupby(["model", "order", "fraction"])["probability"].mean()
        for model, title in titles.items():
            look = {key: looks[model][key] for key in ("color", "marker", "markersize")}
            axes.plot(means[model, "attention"], label=title, linestyle="-", **look)
            axes.plot(means[model, "random"], linestyle=":", linewidth=1, color=look["color"])
        axes.set(xlabel=f"share of the patches {verb}", ylabel="" if index else f"mean probability, positive {bag}s")
        axes.set_title(f"{curve}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.07, 0.94, f"{dataset}: most attended first (solid), in random order (dotted)", fontsize=10)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.82, 0.5),
                  frameon=False, fontsize=9)  # fmt: skip
    return figure
