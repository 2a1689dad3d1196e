"""Does multi-task learning help rare genes? The study's claim, tested on every gene's gain against its prevalence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.report.figures import blank_figure
from milbench.report.looks import PALETTE, SYMBOLS
from milbench.stats.midranks import midranks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PERMUTATIONS = 10_000
FEWEST_TASKS = 5
"""Tasks in all below which a correlation says nothing."""


@dataclass(frozen=True)
class Gain:
    """Gain of one multi-task model over the single-task reference by task.

    Attributes
    ----------
    rows : dataset, task, prevalence, delta, low, high; tasks that count only.
    rho : rank correlation of prevalence and gain inside cohorts, negative where rare genes gain more.
    p : two-sided, by permuting the gains among the tasks of each cohort. Tasks share patients, so it is
        descriptive.
    """

    model: str
    reference: str
    rows: pd.DataFrame
    rho: float
    p: float


def prevalence_and_gain(against: pd.DataFrame, tasks: pd.DataFrame, model: str, reference: str) -> Gain | None:
    """How a model's gain over the reference goes with prevalence; None for too few tasks.

    Parameters
    ----------
    against, tasks : of `milbench.stats.Analysis`.
    """
    mine = against[against["model"] == model].dropna(subset=["delta"])
    facts = tasks.loc[~tasks["is_control"].astype(bool), ["dataset", "task", "prevalence"]]
    rows = facts.merge(mine[["dataset", "task", "delta", "low", "high"]], on=["dataset", "task"]).reset_index(drop=True)
    if len(rows) < FEWEST_TASKS:
        return None
    groups = [group.index.to_numpy() for _, group in rows.groupby("dataset", sort=False)]
    first, second = (_ranks_inside(rows[column].to_numpy(dtype=float), groups) for column in ("prevalence", "delta"))
    rho = float(_correlations(first, second[None])[0])
    rng = np.random.default_rng(0)
    shuffled = np.array([_shuffled(second, groups, rng) for _ in range(PERMUTATIONS)])
    drawn = _correlations(first, shuffled)
    p_value = (1 + int((np.abs(drawn) >= abs(rho) - 1e-12).sum())) / (1 + PERMUTATIONS)
    return Gain(model, reference, rows, rho, p_value)


def _ranks_inside(values: NDArray[np.float64], groups: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Ranks inside each group, centred."""
    ranks = np.empty(len(values))
    for group in groups:
        ranks[group] = midranks(values[group]) - (len(group) + 1) / 2
    return ranks


def _shuffled(
    values: NDArray[np.float64], groups: list[NDArray[np.int64]], rng: np.random.Generator
) -> NDArray[np.float64]:
    shuffled = values.copy()
    for group in groups:
        shuffled[group] = rng.permutation(values[group])
    return shuffled


def _correlations(first: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation of centred ranks [n] with every row of [m, n]: [m]; 0 where either is constant."""
    scale = np.sqrt((first**2).sum() * (rows**2).sum(axis=1))
    sums = (rows * first).sum(axis=1)
    return np.asarray(np.divide(sums, scale, out=np.zeros(len(rows)), where=scale > 0))


def gain_sentence(gain: Gain, titles: Mapping[str, str]) -> str:
    """The answer in words."""
    direction = "rarer tasks gain more" if gain.rho < 0 else "rarer tasks gain less"
    verdict = direction if gain.p < 0.05 else "no relation that chance would not give"
    return (
        f"Gain of {titles[gain.model]} over {titles[gain.reference]} against prevalence, {len(gain.rows)} tasks: rank "
        f"correlation inside cohorts {gain.rho:+.2f}, permutation p = {gain.p:.3f} ({verdict}; tasks of one cohort share "
        "patients: descriptive). Bars are 95 % intervals."
    )


def gain_figure(gain: Gain, titles: Mapping[str, str], datasets: Mapping[str, str]) -> Figure:
    """Every task's gain with its interval against its prevalence, one colour and marker per cohort."""
    figure = blank_figure((7.6, 4.4))
    axes: Any = figure.add_axes((0.1, 0.13, 0.66, 0.78))
    markers = tuple(SYMBOLS.values())
    for index, (dataset, rows) in enumerate(gain.rows.groupby("dataset", sort=False)):
        color = PALETTE[index % (len(PALETTE) - 1)]
        shares = 100 * rows["prevalence"].to_numpy(dtype=float)
        axes.vlines(shares, rows["low"], rows["high"], color=color, linewidth=1.0, alpha=0.6)
        axes.plot(shares, rows["delta"], linestyle="", marker=markers[index % len(markers)], color=color,
                  label=datasets[str(dataset)])  # fmt: skip
        for row, share in zip(rows.itertuples(), shares, strict=True):
            axes.annotate(str(row.task), (share, row.delta), xytext=(4, 3), textcoords="offset points", fontsize=7)
    axes.axhline(0, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    axes.set(xlabel="positive test patients (%)", ylabel=f"AUROC, {titles[gain.model]} − {titles[gain.reference]}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.78, 0.5), frameon=False, fontsize=9
    )
    figure.text(0.1, 0.94, f"rank correlation inside cohorts {gain.rho:+.2f}, permutation p = {gain.p:.3f} (descriptive)",
                fontsize=9)  # fmt: skip
    return figure
