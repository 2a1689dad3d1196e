"""Crossed bootstrap: test patients and folds drawn together, so that both new patients and new trainings are meant.

Folds share their test patients, so that neither may be drawn alone (docs/statistics.md). With H_f[i, j] = 1 where
fold f ranks positive slide i above negative slide j (1/2 for ties), the AUROC of fold f under slide weights w is

    A_f = sum_ij w_i H_f[i, j] w_j / (sum_i w_i  sum_j w_j),

a matrix product for all draws at once (1). A draw's AUROC is the mean of A_f over the folds drawn (2). If all folds test the
same slides, both are one product (`milbench.stats.auroc_draws`). Tasks of other kinds have the primary metric of their kind in
place of A_f (`milbench.metrics.draws`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.endpoints.answers import decoded_grade
from milbench.endpoints.endpoint import Kind
from milbench.metrics import concordance_draws, kappa_draws, macro_auroc_draws, pearson_draws
from milbench.metrics.weights import ratio
from milbench.stats.auroc_draws import mean_aurocs, side_aurocs
from milbench.stats.grid import TaskScores

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEVEL = 0.95
PICKS_AT_ONCE = 16_384
"""Of units, by the bootstrap: 128 KiB."""


class Interval(NamedTuple):
    """Bounds of a percentile interval; NaN where there is none."""

    low: float
    high: float


# ---- drawing -------------------------------------------------------------------------------------


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator of its own for every (dataset, task): adding one changes no other's draws."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])


def draw_counts(rng: np.random.Generator, n_units: int, draws: int) -> NDArray[np.int64]:
    """How often each of `n_units` is drawn when as many are drawn with replacement, [draws, n_units]."""
    return _counted(rng, [np.arange(n_units)], n_units, draws)


def draw_within_classes(rng: np.random.Generator, labels: Floats, draws: int) -> NDArray[np.int64]:
    """How often each patient is drawn, every class apart, [draws, P]; never one without a label."""
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels[~np.isnan(labels)])]
    return _counted(rng, classes, len(labels), draws)


def _counted(
    rng: np.random.Generator, groups: Sequence[NDArray[np.intp]], n_units: int, draws: int
) -> NDArray[np.int64]:
    """How often each unit is drawn when each group draws as many as it has, [draws, n_units].

    A few draws at a time, so that they are counted in the processor's cache. The generator gives the same numbers in parts.
    """
    counts = np.zeros((draws, n_units), dtype=np.int64)
    for members in groups:
        size = len(members)
        at_once = max(1, PICKS_AT_ONCE // size)
        for start in range(0, draws, at_once):
            part = counts[start : start + at_once]
            picks = np.take(members, rng.integers(0, size, (len(part), size)))
            picks += np.arange(0, part.size, n_units)[:, None]
            part += np.bincount(picks.ravel(), minlength=part.size).reshape(part.shape)
    return counts


# ---- scoring -------------------------------------------------------------------------------------


def crossed_draws(task: TaskScores, rng: np.random.Generator, draws: int) -> Floats:
    """Score of every model in every draw of patients, within their classes, and folds: [draws, M].

    All models see the same patients and folds, so differences between columns are paired.
    """
    patients = draw_within_classes(rng, task.stratum, draws)
    folds = draw_counts(rng, len(task.tested), draws)
    mean = mean_scores(task, patients, folds)
    return mean_over_folds(fold_scores(task, patients), folds) if mean is None else mean


def mean_scores(task: TaskScores, weights: NDArray[np.int64], folds: NDArray[np.int64]) -> Floats | None:
    """(2) without the scores of single folds, where they share their test side: weights [B, P] and [B, F] to [B, M].

    None where the score of every fold is needed.
    """
    (_, slides), *others = sides(task)
    if task.kind != "binary" or others:
        return None
    part = task.scores[:, :, :, slides]
    return mean_aurocs(part, task.targets[slides] == 1, weights, task.patients[slides], folds)


def mean_over_folds(scores: Floats, fold_weights: NDArray[np.int64]) -> Floats:
    """(2): [B, M, F] and [B, F] to [B, M]; NaN folds are left out, NaN where no drawn fold has a value."""
    known = ~np.isnan(scores)
    total = np.einsum("bmf,bf->bm", np.where(known, scores, 0), fold_weights.astype(float))
    weight = np.einsum("bmf,bf->bm", known.astype(float), fold_weights.astype(float))
    return ratio(total, weight)


def fold_scores(task: TaskScores, weights: NDArray[np.int64]) -> Floats:
    """(1): the primary metric of the task's kind, mean over seeds, under patient weights [B, P]: [B, M, F].

    NaN where the model lacks the fold, and where the metric is undefined in a draw: a fold's test side without a class.
    """
    n_models, n_folds = task.scores.shape[:2]
    scores = np.full((len(weights), n_models, n_folds), np.nan)
    for folds, slides in sides(task):
        part = task.scores[:, folds][:, :, :, slides]  # [M, f, K, s] or [M, f, K, s, C]
        scores[:, :, folds] = SIDE_SCORES[task.kind](task, part, slides, weights)
    return scores


def sides(task: TaskScores) -> list[tuple[list[int], Flags]]:
    """Folds that test the same slides, with those slides: one entry for a shared test side."""
    found: dict[bytes, list[int]] = {}
    for fold, slides in enumerate(task.tested):
        found.setdefault(slides.tobytes(), []).append(fold)
    return [(folds, task.tested[folds[0]]) for folds in found.values()]


def _binary(task: TaskScores, scores: Floats, slides: Flags, weights: NDArray[np.int64]) -> Floats:
    return side_aurocs(scores, task.targets[slides] == 1, weights, task.patients[slides])


def _multiclass(task: TaskScores, scores: Floats, slides: Flags, weights: NDArray[np.int64]) -> Floats:
    drawn = macro_auroc_draws(_of_slides(task, slides, weights), task.targets[slides], scores)
    return _mean_over_seeds(drawn)


def _ordinal(task: TaskScores, scores: Floats, slides: Flags, weights: NDArray[np.int64]) -> Floats:
    grades = decoded_grade(scores, task.n_classes)
    return _mean_over_seeds(
        kappa_draws(_of_slides(task, slides, weights), task.targets[slides], grades, task.n_classes)
    )


def _regression(task: TaskScores, scores: Floats, slides: Flags, weights: NDArray[np.int64]) -> Floats:
    return _mean_over_seeds(pearson_draws(_of_slides(task, slides, weights), task.targets[slides], scores))


def _survival(task: TaskScores, scores: Floats, slides: Flags, weights: NDArray[np.int64]) -> Floats:
    """Over patients, whose risk is the mean over their slides: else one with many slides would count as many."""
    patients, risks = by_patient(task.patients[slides], scores)
    of_patients = np.asarray(weights[:, patients], dtype=float)
    times, events = task.patient_label[patients], task.patient_event[patients]
    return _mean_over_seeds(concordance_draws(of_patients, times, events, risks))


SideScores = Callable[[TaskScores, Floats, Flags, NDArray[np.int64]], Floats]
SIDE_SCORES: Mapping[Kind, SideScores] = {
    "binary": _binary, "multiclass": _multiclass, "ordinal": _ordinal, "regression": _regression, "survival": _survival,
}  # fmt: skip
"""By kind: scores of one test side [M, f, K, s] or [M, f, K, s, C], its slides and weights [B, P] to [B, M, f]."""


def by_patient(patients: NDArray[np.int64], scores: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Patients [p], ascending, and their means over slides of scores [..., s]: [..., p]; all NaN where one is NaN."""
    distinct = np.unique(patients)
    member = (patients[:, None] == distinct).astype(float)  # [s, p]
    return distinct, scores @ (member / member.sum(axis=0))


def _of_slides(task: TaskScores, slides: Flags, weights: NDArray[np.int64]) -> Floats:
    """Weights [B, s]: a slide counts as often as its patient."""
    return np.asarray(weights[:, task.patients[slides]], dtype=float)


def _mean_over_seeds(drawn: Floats) -> Floats:
    """[B, M, f, K] to [B, M, f], of the seeds with a number."""
    known = ~np.isnan(drawn)
    return ratio(np.where(known, drawn, 0).sum(axis=-1), known.sum(axis=-1).astype(float))


# ---- reading the draws ---------------------------------------------------------------------------


def interval(draws: Floats) -> Interval:
    """Percentile interval of the draws [B], NaN left out; NaN where there is none."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def p_value(differences: Floats) -> float:
    """Two-sided p of "no difference" by inverting the percentile interval; at least 1 / (draws + 1), at most 1."""
    known = differences[~np.isnan(differences)]
    if not len(known):
        return float("nan")
    smaller = min(float(np.mean(known <= 0)), float(np.mean(known >= 0)))
    return min(1.0, max(2 * smaller, 1 / (len(known) + 1)))


def superiority(differences: Floats) -> float:
    """Share of draws above zero, ties half; NaN without draws."""
    known = differences[~np.isnan(differences)]
    return float(np.mean(known > 0) + np.mean(known == 0) / 2) if len(known) else float("nan")
