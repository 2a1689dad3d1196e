"""Figures of comparison: critical differences, all pairs of models, AUROC against cost, prevalence against gain."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from milbench.report.costs import scaled
from milbench.report.figures import blank_figure, styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DESCRIPTIVE = "pairs of one cohort share patients: descriptive"


def critical_difference(ranks: Any, titles: Mapping[str, str]) -> Figure:
    """Mean ranks on a line; a bar joins models that Wilcoxon's test with Holm's correction does not tell apart.

    Parameters
    ----------
    ranks : of `milbench.stats.Analysis`.
    """
    from scikit_posthocs import critical_difference_diagram

    names = [titles[model] for model in ranks.mean_ranks.index]
    figure = blank_figure((8.2, 1.6 + 0.24 * len(names)))
    axes = figure.add_axes((0.22, 0.05, 0.56, 0.74))
    mean_ranks = ranks.mean_ranks.set_axis(names)
    p_values = ranks.wilcoxon_p.set_axis(names, axis=0).set_axis(names, axis=1).fillna(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        critical_difference_diagram(
            mean_ranks, p_values, ax=axes, label_fmt_left="{label}  {rank:.2f} ", label_fmt_right=" {rank:.2f}  {label}",
            label_props={"fontsize": 9}, color_palette=dict.fromkeys(names, "black"),
            marker_props={"color": "black"}, crossbar_props={"color": "#0072B2", "linewidth": 3},
        )  # fmt: skip
    figure.text(
        0.5, 0.93,
        f"Mean rank over {ranks.n_cells} (cohort, task) pairs, best left; joined: not told apart ({DESCRIPTIVE})",
        ha="center", fontsize=9,
    )  # fmt: skip
    return figure


def comparison_matrix(ranks: Any, titles: Mapping[str, str]) -> Figure:
    """Every pair of models: mean AUROC difference, wins/ties/losses and Holm-corrected p; rows better are blue."""
    models = list(ranks.mean_ranks.sort_values(kind="stable").index)
    difference = ranks.mean_difference.loc[models, models].to_numpy(dtype=float)
    figure = blank_figure((max(1.6 + 0.92 * len(models), 5.2), 1.5 + 0.62 * len(models)))
    axes = figure.add_axes((1.5 / figure.get_figwidth(), 0.12, 0.97 - 1.5 / figure.get_figwidth(), 0.66))
    limit = max(float(np.nanmax(np.abs(difference))), 0.01)
    axes.imshow(difference, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for row, first in enumerate(models):
        for column, second in enumerate(models):
            if row != column:
                axes.text(column, row, _pair(ranks, first, second), ha="center", va="center", fontsize=7.5,
                          color="white" if abs(difference[row, column]) > 0.6 * limit else "black")  # fmt: skip
    labels = [titles[model] for model in models]
    axes.set_xticks(range(len(models)), labels, rotation=30, ha="left", fontsize=8.5)
    axes.set_yticks(range(len(models)), labels, fontsize=8.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.text(
        0.5, 0.015, f"row minus column; wins/ties/losses; Holm-corrected p\n({DESCRIPTIVE})", ha="center", fontsize=7.5
    )
    return figure


def _pair(ranks: Any, first: str, second: str) -> str:
    p_value = ranks.wilcoxon_p.loc[first, second]
    counts = [int(table.loc[first, second]) for table in (ranks.wins, ranks.ties, ranks.losses)]
    p_text = "p<.001" if p_value < 0.001 else f"p={p_value:.3f}".replace("0.", ".", 1)
    return f"{ranks.mean_difference.loc[first, second]:+.3f}\n{counts[0]}/{counts[1]}/{counts[2]}\n{p_text}"


COST_AXES = {
    "all_tasks_seconds": "seconds of training for all tasks (one fold)",
    "multiply_adds": "multiply-adds per bag, all tasks",
    "peak_bytes": "peak memory (bytes)",
}


def pareto(cohorts: pd.DataFrame, costs: pd.DataFrame, cost: str, title: str) -> Figure | None:
    """AUROC with its interval against a cost, log scale; a line joins models that none beats in both.

    Both frames hold one dataset. None where no model has both numbers.
    """
    both = cohorts.merge(costs[["model", cost, "n_models_for_all_tasks"]], on="model")
    both = both[(both["n_missing"] == 0) & both["auroc"].notna() & (both[cost] > 0)].copy()
    if both.empty:
        return None
    if cost == "multiply_adds":  # ten single-task models look at a slide ten times
        both[cost] *= both["n_models_for_all_tasks"]
    from matplotlib.ticker import LogLocator, NullLocator

    figure = blank_figure((7.6, 4.6))
    axes = figure.add_axes((0.1, 0.13, 0.6, 0.76))
    looks = styles(list(cohorts["model"]))
    front = both[~both.apply(lambda row: _beaten(row, both, cost), axis=1)].sort_values(cost)
    axes.step(front[cost], front["auroc"], where="post", color="0.6", linewidth=1.0, zorder=1)
    for row in both.itertuples():
        look = looks[row.model]
        value = getattr(row, cost)
        if not np.isnan(row.low):
            axes.plot([value, value], [row.low, row.high], color=look["color"], linewidth=1.2, zorder=2)
        axes.plot(value, row.auroc, linestyle="", marker=look["marker"], color=look["color"], markersize=7,
                  markerfacecolor=look["color"] if row.model in set(front["model"]) else "white",
                  label=row.title, zorder=3)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: scaled(value))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=COST_AXES[cost], ylabel="mean test AUROC, 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.set_title(title, fontsize=11)
    figure.legend(*axes.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.72, 0.5), frameon=False,
                  fontsize=9, title="filled: none beats it in both")  # fmt: skip
    return figure


def _beaten(row: pd.Series, all_rows: pd.DataFrame, cost: str) -> bool:
    better = (all_rows[cost] <= row[cost]) & (all_rows["auroc"] >= row["auroc"])
    strictly = (all_rows[cost] < row[cost]) | (all_rows["auroc"] > row["auroc"])
    return bool((better & strictly).any())
