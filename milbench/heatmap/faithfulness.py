"""Faithfulness: what maps are worth where no truth is known.

Deletion: how the probability falls when the most attended patches go, against random ones. Insertion: how it rises when
only they are shown. Agreement: whether models of other folds look at the same patches of the same test slide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from milbench.bag import Bag
from milbench.heatmap.asked import Asked
from milbench.heatmap.attention import as_array, looks
from milbench.heatmap.evaluate import models_of
from milbench.heatmap.stored import RunCohort, StoredModel

FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
"""Shares of the patches that are removed or, from the second on, shown alone."""

MOST_SLIDES = 20
"""Slides per task: every point of a curve is a forward pass."""

SEED = 0


class CurvePoint(NamedTuple):
    """Probability of one slide with some of its patches.

    Attributes
    ----------
    curve : "deletion" or "insertion". order : "attention" or "random". fraction : of the patches removed or shown.
    """

    dataset: str
    model: str
    title: str
    task: str
    fold: int
    curve: str
    order: str
    fraction: float
    slide_id: str
    probability: float


def curve_points(cohort: RunCohort, names: Sequence[str], fold: int) -> pd.DataFrame:
    """Curves of up to `MOST_SLIDES` positive test slides of every task and class, one row a point, `CurvePoint`.

    Tasks without classes have none: their answers are no probabilities, and nothing is positive.
    """
    models = models_of(cohort, names, fold)
    wanted = {asked: _positives(cohort, asked, fold) for stored in models for asked in stored.asked}
    asked = dict.fromkeys(slide for slides in wanted.values() for slide in slides)
    rows = [
        point
        for look in looks(cohort, models, asked)
        for stored, maps in look.seen
        for asked in stored.asked
        if look.bag.slide_id in wanted[asked]
        for point in _curves(cohort.name, stored, asked, look.bag, as_array(maps.per_task[stored.row(asked)]), fold)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=CurvePoint._fields)


def _positives(cohort: RunCohort, asked: Asked, fold: int) -> list[str]:
    slides = (slide for slide in cohort.slides(fold, "test") if asked.is_positive(cohort.label(slide, asked.task)))
    return [slide for slide, _ in zip(slides, range(MOST_SLIDES), strict=False)]


def _curves(
    dataset: str, stored: StoredModel, asked: Asked, bag: Bag, values: NDArray[np.float64], fold: int
) -> Iterator[CurvePoint]:  # fmt: skip
    patches = stored.patches(bag)
    random = np.random.default_rng([SEED, len(values)]).permutation(len(values))
    for order, ranked in (("attention", np.argsort(-values, kind="stable")), ("random", random)):
        for curve, fraction, kept in kept_patches(ranked):
            probability = float(stored.answers(*patches.rows(torch.from_numpy(kept)).given)[stored.row(asked)])
            title = stored.model.info.title
            yield CurvePoint(
                dataset, stored.name, title, asked.title, fold, curve, order, fraction, bag.slide_id, probability
            )


def kept_patches(ranked: NDArray[np.int64]) -> Iterator[tuple[str, float, NDArray[np.int64]]]:
    """Curve, fraction and the patches that stay, in their own order, for patches [N] `ranked` from the first to go."""
    for fraction in FRACTIONS:
        count = round(fraction * len(ranked))
        if count < len(ranked):
            yield "deletion", fraction, np.sort(ranked[count:])
        if fraction:
            yield "insertion", fraction, np.sort(ranked[: max(count, 1)])


def curve_table(points: pd.DataFrame) -> pd.DataFrame:
    """One row per model and task: mean probability along each curve, and what attention gains over random order.

    `deletion_gain` = random - attention, `insertion_gain` = attention - random: above 0, the map matters to the model.
    """
    by = ["dataset", "model", "title", "task"]
    means = points.groupby([*by, "curve", "order"], sort=False)["probability"].mean().unstack(["curve", "order"])
    table = pd.DataFrame({f"{curve}_{order}": means[curve, order] for curve, order in means.columns})
    table["deletion_gain"] = table["deletion_random"] - table["deletion_attention"]
    table["insertion_gain"] = table["insertion_attention"] - table["insertion_random"]
    slides = points.groupby(by, sort=False)["slide_id"].nunique().rename("n_slides")
    return table.join(slides).reset_index()


def agreement_table(cohort: RunCohort, names: Sequence[str], folds: Sequence[int]) -> pd.DataFrame:
    """Mean Spearman correlation of the maps of each two folds' models, over slides that both test, by model and task."""
    tested = set.intersection(*(set(cohort.slides(fold, "test")) for fold in folds))
    shared = [slide for slide in cohort.slides(folds[0], "test") if slide in tested][:MOST_SLIDES]
    models = [(fold, stored) for fold in folds for stored in models_of(cohort, names, fold)]
    found: dict[tuple[str, str, str], list[float]] = {}
    for look in looks(cohort, [stored for _, stored in models], shared):
        ranks: dict[tuple[str, str, str], list[NDArray[np.float64]]] = {}
        for stored, maps in look.seen:
            for row, asked in enumerate(stored.asked):
                key = (stored.name, stored.model.info.title, asked.title)
                ranks.setdefault(key, []).append(rankdata(as_array(maps.per_task[row])))
        for key, of_folds in ranks.items():
            found.setdefault(key, []).extend(correlation(a, b) for a, b in combinations(of_folds, 2))
    rows = [
        (cohort.name, *key, len(folds), len(shared), float(np.nanmean(values)))
        for key, values in found.items()
        if values
    ]
    return pd.DataFrame(rows, columns=["dataset", "model", "title", "task", "n_folds", "n_slides", "spearman"])


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson correlation of two rows [N]; 0 where one of them is constant, as it then tells nothing."""
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else 0.0
