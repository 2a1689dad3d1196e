"""Figures of comparison: critical differences, all pairs of models, AUROC against cost, prevalence against gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, isnan, sqrt
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.report.figures import blank_figure
from milbench.report.looks import styles
from milbench.report.told_apart import ToldApart
from milbench.report.units import BYTES, COUNT, SECONDS, in_words, nice_ticks
from milbench.stats.metric import AUROC, PrimaryMetric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIXED_SCALE = 0.2
"""Difference in AUROC at which the matrix's colour is full, in every report; beyond it stays full."""

NOT_APART = "0.93"

MOST_IN_WORDS = 12
"""Models beyond which a cell of the matrix holds the difference alone: with more in it, a page cannot show it readably."""


def critical_difference(ranks: Any, titles: Mapping[str, str], verdict: ToldApart, highlight: str = "") -> Figure:
    """Mean ranks on a line; a bar joins models of which the pair table tells no two apart.

    Where no p can fall under 0.05 no bar is drawn, since it would join all whatever the data say.

    Parameters
    ----------
    ranks : of `milbench.stats.Analysis`.
    """
    order = list(ranks.mean_ranks.sort_values(kind="stable").index)
    joined = groups_not_told_apart(order, verdict) if verdict.can_tell else []
    note = [line for text in rank_notes(ranks, verdict) for line in wrap(text, 120)]
    half = ceil(len(order) / 2)
    height = 1.0 + 0.16 * len(joined) + 0.26 * half + 0.2 * len(note)
    figure = blank_figure((8.2, height))
    axes: Any = figure.add_axes((0.24, 0.02 + 0.2 * len(note) / height, 0.52, 0.72 - 0.2 * len(note) / height))
    looks = styles(order, highlight)
    low, high = floor(ranks.mean_ranks.min()), ceil(ranks.mean_ranks.max())
    bottom = -(0.16 * len(joined) + 0.26 * half + 0.1)
    axes.set(xlim=(low, max(high, low + 1)), ylim=(bottom, 0))
    for depth, group in enumerate(joined):
        ends = [ranks.mean_ranks[group[0]] - 0.04, ranks.mean_ranks[group[-1]] + 0.04]
        axes.plot(ends, [-0.1 - 0.16 * depth] * 2, color="0.35", linewidth=3, solid_capstyle="butt")
    for place, model in enumerate(order):
        _rank_stem(axes, ranks.mean_ranks[model], place, len(order), len(joined), titles[model], looks[model])
    axes.xaxis.tick_top()
    axes.set_xticks(range(low, max(high, low + 1) + 1))
    axes.tick_params(labelsize=8)
    axes.set_yticks([])
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    figure.text(0.5, 1 - 0.2 / height, f"Mean rank over {ranks.n_cells} (cohort, task) cells, best left",
                ha="center", fontsize=10)  # fmt: skip
    for line, text in enumerate(reversed(note)):
        figure.text(0.5, (0.08 + 0.18 * line) / height, text, ha="center", fontsize=7.5, color="0.25")
    return figure


def _rank_stem(axes: Any, rank: float, place: int, count: int, bars: int, title: str, look: Mapping[str, Any]) -> None:
    """From the line to a name: the better half to the left, the worse to the right."""
    left = place < ceil(count / 2)
    depth = -(0.16 * bars + 0.26 * (1 + (place if left else count - 1 - place)))
    start, end = axes.get_xlim()
    edge = start - 0.02 * (end - start) if left else end + 0.02 * (end - start)
    axes.plot([rank, rank, edge], [0, depth, depth], color=look["color"], linewidth=look["linewidth"], clip_on=False)
    axes.plot([rank], [0], marker=look["marker"], color=look["color"], markersize=6, clip_on=False, zorder=4)
    text = f"{title}  {rank:.2f} " if left else f" {rank:.2f}  {title}"
    axes.text(edge, depth, text, ha="right" if left else "left", va="center", fontsize=9)


def groups_not_told_apart(order: Sequence[str], verdict: ToldApart) -> list[list[str]]:
    """Longest runs of models, by rank, of which no two are told apart."""
    groups: list[list[str]] = []
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and not any(verdict.apart(model, order[end]) for model in order[start:end]):
            end += 1
        group = list(order[start:end])
        if len(group) > 1 and not any(set(group) <= set(other) for other in groups):
            groups.append(group)
    return groups


def rank_notes(ranks: Any, verdict: ToldApart) -> list[str]:
    """What a reader of the diagram must know, in sentences."""
    joined = (
        f"Joined by a bar: not told apart in mean {verdict.metric.title} (crossed bootstrap, Holm over all pairs), as in "
        "pairs.csv."
        if verdict.can_tell
        else "No bar is drawn."
    )
    p = ranks.friedman_p
    small = "< 0.001" if p < 0.001 else f"= {p:.3f}"
    friedman = "" if isnan(p) else f"Friedman p {small}, descriptive: cells share patients."
    return [text for text in (joined, verdict.note, friedman) if text]


def matrix_note(ranks: Any, verdict: ToldApart) -> str:
    """What a reader of the matrix must know."""
    told = (
        f"; wins/ties/losses over {ranks.n_cells} (cohort, task) cells; Holm-corrected p of the crossed bootstrap, as in pairs.csv."
        if len(ranks.mean_ranks) <= MOST_IN_WORDS
        else " (p in pairs.csv)."
    )
    return (
        f"Row minus column: mean {verdict.metric.title} difference{told} Grey: not told apart. Full colour from a difference "
        f"of {FIXED_SCALE:g}. {verdict.note}"
    ).strip()


def comparison_matrix(ranks: Any, titles: Mapping[str, str], verdict: ToldApart) -> Figure:
    """Matrix of all pairs of models: mean AUROC difference, wins/ties/losses and the pair table's p.

    Blue where the row is ahead, red where it is behind, on one scale for all reports; grey where the two are not
    told apart.
    """
    models = list(ranks.mean_ranks.sort_values(kind="stable").index)
    difference = ranks.mean_difference.loc[models, models].to_numpy(dtype=float)
    in_words = len(models) <= MOST_IN_WORDS
    across, down = (0.92, 0.56) if in_words else (0.44, 0.27)  # inches of a cell
    labels = [titles[model] for model in models]
    slanted = 0.1 if in_words else 0.07 * max(map(len, labels))  # inches to the right of the last column, for its name
    width = max(1.5 + across * len(models) + slanted, 5.2)
    note = wrap(matrix_note(ranks, verdict), int(24 + 14 * (width - 1.6)))
    foot = 0.2 + 0.15 * len(note)
    height = 0.95 + down * len(models) + foot
    figure = blank_figure((width, height))
    right = 0.03 if in_words else slanted / width
    axes = figure.add_axes((1.5 / width, foot / height, 1 - right - 1.5 / width, down * len(models) / height))
    _paint_matrix(axes, difference, models, verdict)
    for row, first in enumerate(models):
        for column, second in enumerate(models):
            if row != column:
                full = abs(difference[row, column]) > 0.7 * FIXED_SCALE and verdict.apart(first, second)
                text = _pair(ranks, verdict, first, second) if in_words else _short(difference[row, column])
                axes.text(column, row, text, ha="center", va="center", fontsize=7.5,
                          color="white" if full else "black")  # fmt: skip
    axes.set_xticks(range(len(models)), labels, rotation=30, ha="left", fontsize=8.5)
    axes.set_yticks(range(len(models)), labels, fontsize=8.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for line, text in enumerate(reversed(note)):
        figure.text(0.5, (0.06 + 0.15 * line) / height, text, ha="center", fontsize=7.5, color="0.25")
    return figure


def _paint_matrix(axes: Any, difference: NDArray[np.float64], models: Sequence[str], verdict: ToldApart) -> None:
    """Colour of every pair that is told apart; grey for the others, nothing on the diagonal."""
    from matplotlib import colormaps
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    shades = np.floor(255 * colormaps["RdBu"](np.clip(0.5 + difference / (2 * FIXED_SCALE), 0, 1))) / 255
    for row, first in enumerate(models):
        for column, second in enumerate(models):
            if row == column:
                shades[row, column] = to_rgba("white")
            elif not verdict.apart(first, second):
                shades[row, column] = to_rgba(NOT_APART)
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    places = np.stack(np.meshgrid(*(np.arange(len(models)),) * 2), axis=-1).reshape(-1, 1, 2)
    # not by `imshow`: a picture is laid out anew for the PDF
    axes.add_collection(
        PolyCollection(
            list(corners + places), facecolors=shades.reshape(-1, 4), edgecolors="none", antialiaseds=False, zorder=0
        ),
        autolim=False,
    )
    axes.set(xlim=(-0.5, len(models) - 0.5), ylim=(len(models) - 0.5, -0.5))
    axes.set_xticks(np.arange(len(models) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(models) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)


def _short(difference: float) -> str:
    """ "−.033", without the 0."""
    return f"{difference:+.3f}".replace("-", "−").replace("0.", ".", 1)


def _pair(ranks: Any, verdict: ToldApart, first: str, second: str) -> str:
    p_value = verdict.p.loc[first, second]
    counts = [int(table.loc[first, second]) for table in (ranks.wins, ranks.ties, ranks.losses)]
    p_text = "p –" if isnan(p_value) else "p<.001" if p_value < 0.001 else f"p={p_value:.3f}".replace("0.", ".", 1)
    difference = f"{ranks.mean_difference.loc[first, second]:+.3f}".replace("-", "−")
    return f"{difference}\n{counts[0]}/{counts[1]}/{counts[2]}\n{p_text}"


LEAST_SPAN = 0.1
"""Score that an axis shows at least: differences of thousandths must look like nothing."""

LEAST_COST_RATIO = 10.0
"""A cost axis spans at least this factor, for the same reason."""

COST_AXES = {
    "all_tasks_seconds": ("training time for all tasks, one fold", SECONDS),
    "multiply_adds": ("multiply-adds per bag, all tasks", COUNT),
    "peak_bytes": ("peak memory", BYTES),
}


def pareto(
    cohorts: pd.DataFrame,
    costs: pd.DataFrame,
    cost: str,
    title: str,
    highlight: str = "",
    metric: PrimaryMetric = AUROC,
) -> Figure | None:
    """Scores with its interval against a cost, log scale; a line joins models that none beats in both.

    Both frames hold one dataset. None where no model has both numbers. A model without an interval has no whisker.
    """
    both = scores_and_costs(cohorts, costs, cost)
    return pareto_figure(both, list(cohorts["model"]), cost, title, highlight, metric) if len(both) else None


def scores_and_costs(cohorts: pd.DataFrame, costs: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Rows of `cohorts` with a score, and the cost of all tasks beside it; a model that lacks either is left out."""
    both = cohorts.merge(costs[["model", cost, "n_models_for_all_tasks"]], on="model")
    both = both[(both["n_missing"] == 0) & both["score"].notna() & (both[cost] > 0)].copy()
    if cost == "multiply_adds":  # ten single-task models look at a slide ten times
        both[cost] *= both["n_models_for_all_tasks"]
    return both


def pareto_figure(
    both: pd.DataFrame,
    models: Sequence[str],
    cost: str,
    title: str,
    highlight: str = "",
    metric: PrimaryMetric = AUROC,
) -> Figure:
    """The figure of `pareto`, of rows of `scores_and_costs`; `models` are all of the cohort, which looks depend on."""
    figure = blank_figure((7.6, 4.6))
    axes = figure.add_axes((0.1, 0.13, 0.6, 0.76))
    looks = styles(models, highlight)
    front = both[~both.apply(lambda row: _beaten(row, both, cost), axis=1)].sort_values(cost)
    axes.step(front[cost], front["score"], where="post", color="0.6", linewidth=1.0, zorder=1)
    for row in both.itertuples():
        look = looks[row.model]
        value = getattr(row, cost)
        if not np.isnan(row.low):
            axes.plot([value, value], [row.low, row.high], color=look["color"], linewidth=1.2, zorder=2)
        axes.plot(value, row.score, linestyle="", marker=look["marker"], color=look["color"],
                  markersize=10 if row.model == highlight else 7,
                  markerfacecolor=look["color"] if row.model in set(front["model"]) else "white",
                  label=row.title, zorder=3)  # fmt: skip
    has_intervals = bool(both["low"].notna().any())
    _cost_axis(axes, both[cost], cost)
    axes.set_ylim(score_ends(both[["score", "low", "high"]].to_numpy(dtype=float), metric))
    axes.set_ylabel(f"mean test {metric.title}{', 95 % interval' if has_intervals else ''}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.set_title(title, fontsize=11, y=1.0)
    figure.legend(*axes.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.72, 0.5), frameon=False,
                  fontsize=9, title="filled: none beats it in both")  # fmt: skip
    return figure


def score_ends(values: NDArray[np.float64], metric: PrimaryMetric = AUROC) -> tuple[float, float]:
    """Ends of an axis of scores: all values and a margin, never less than `LEAST_SPAN`, never beyond worst and best."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = max(0.05 * (high - low), (LEAST_SPAN - (high - low)) / 2)
    low, high = low - margin, high + margin
    most = metric.best + 0.01  # a little room for the marker of a model at the best score
    if high > most:
        low, high = low - (high - most), most
    return max(low, metric.worst - 0.01), high


def _cost_axis(axes: Any, values: pd.Series, cost: str) -> None:
    """A logarithmic axis with ticks in words, never less than `LEAST_COST_RATIO` from end to end."""
    from matplotlib.ticker import NullLocator

    label, unit = COST_AXES[cost]
    middle = sqrt(values.min() * values.max())
    reach = max(1.15 * sqrt(values.max() / values.min()), sqrt(LEAST_COST_RATIO))
    axes.set_xscale("log")
    axes.set_xlim(middle / reach, middle * reach)
    ticks = nice_ticks(middle / reach, middle * reach, unit)
    axes.set_xticks(ticks, [in_words(tick, unit) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def _beaten(row: pd.Series, all_rows: pd.DataFrame, cost: str) -> bool:
    better = (all_rows[cost] <= row[cost]) & (all_rows["score"] >= row["score"])
    strictly = (all_rows[cost] < row[cost]) | (all_rows["score"] > row["score"])
    return bool((better & strictly).any())
