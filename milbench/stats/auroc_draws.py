"""AUROC draws: the AUROC of one test side under weights of its patients, from the matrix of won pairs.

With H_f[i, j] = 1 where fold f ranks positive slide i above negative slide j (1/2 for ties), the sum of w_i H_f[i, j] w_j
is a matrix product for all draws at once. If folds are drawn too, and all test the same slides, the mean over the folds of a
draw has the matrix sum_f c_f H_f, with c_f = how often fold f was drawn. Many draws drew the same folds: five folds can be
drawn in 126 ways. So these matrices are few, and the products are over models instead of models and folds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from milbench.metrics.draws import exact_dtype
from milbench.metrics.weights import ratio

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

BLOCK_BYTES = 2 * 2**20
"""Largest array of a step of the bootstrap, about what a core's cache holds."""
FEWEST_DRAWS_AT_ONCE = 64
"""Below, a product reads its matrix for too little arithmetic."""
MOST_FOLDS = 7
"""Beyond, nearly every one of 10,000 draws has folds of its own."""


def wins(scores: Floats, positive: Flags) -> tuple[Floats, Floats]:
    """H summed over seeds, and the number of seeds in it.

    Parameters
    ----------
    scores : [M, F, K, S]; a (model, fold, seed) with a NaN is left out.
    positive : [S].

    Returns
    -------
    [M, F, positives, negatives] in halves, and [M, F].
    """
    whole: Flags = np.logical_not(np.isnan(scores).any(axis=-1))  # [M, F, K]
    above = np.zeros((*scores.shape[:2], int(positive.sum()), int((~positive).sum())))
    for k in range(scores.shape[2]):
        high, low = scores[:, :, k, positive][..., :, None], scores[:, :, k, ~positive][..., None, :]
        above += whole[:, :, k, None, None] * ((high > low) + 0.5 * (high == low))
    return above, whole.sum(axis=-1).astype(float)


def side_aurocs(scores: Floats, positive: Flags, weights: Counts, patients: Counts) -> Floats:
    """(1) on one test side: scores [M, F, K, S] of slides of `patients` [S], patient weights [B, P] to [B, M, F]."""
    above, n_seeds = wins(scores, positive)
    few, many, above = _smaller_first(patients[positive], patients[~positive], above)
    shape = (len(weights), *scores.shape[:2])
    if not len(few):
        return np.full(shape, np.nan)
    n_few, n_many = _n_drawn(weights, few, many)
    dtype = exact_dtype(n_few[:, None], n_many[:, None], scores.shape[2])
    few, many, above = _of_patients(above.reshape(-1, *above.shape[2:]), few, many)
    total = _weighted_wins(above, weights, few, many, dtype)
    return ratio(total.reshape(shape), (n_few * n_many)[:, None, None] * n_seeds)


def mean_aurocs(scores: Floats, positive: Flags, weights: Counts, patients: Counts, folds: Counts) -> Floats | None:
    """Mean over the drawn folds of the AUROCs of `side_aurocs`: fold weights [B, F] to [B, M], NaN where a draw lacks a class.

    None where a training is missing, so that means of models are over different folds, or where too few draws share their
    folds to be worth it.
    """
    n_draws, n_folds = folds.shape
    if n_folds > MOST_FOLDS or not positive.any() or positive.all():
        return None
    drawn, which = _distinct(folds)
    # a matrix is made of F others for each way to draw folds, which is less arithmetic but all of it goes through memory
    is_worth_it = 2 * n_folds * len(drawn) + n_draws < n_folds * n_draws
    if not is_worth_it or np.isnan(scores).any():
        return None
    above, _ = wins(scores, positive)
    few, many, above = _smaller_first(patients[positive], patients[~positive], above)
    n_few, n_many = _n_drawn(weights, few, many)
    dtype = exact_dtype(n_few[:, None], n_many[:, None], scores.shape[2] * n_folds)
    few, many, above = _of_patients(above.reshape(-1, *above.shape[2:]), few, many)
    total = _mean_wins(above.reshape(-1, n_folds, *above.shape[1:]), weights, few, many, drawn, which, dtype)
    return ratio(total, (n_few * n_many * folds.sum(axis=1) * scores.shape[2])[:, None])


def _mean_wins(
    above: Floats, weights: Counts, few: Counts, many: Counts, drawn: Counts, which: Counts, dtype: type[np.floating]
) -> Floats:
    """Sum over f, i, j of c_f w_i H_f[i, j] w_j in every draw: H [M, F, few, many] to [B, M].

    Draws with the same folds, `drawn` [N, F] of them by `which` [B], are one product. No sum is split, and all are exact.
    """
    n_models, n_folds, n_few, n_many = above.shape
    by_fold = np.ascontiguousarray(above.transpose(1, 3, 0, 2), dtype=dtype).reshape(n_folds, -1)  # [F, many M few]
    order = np.argsort(which, kind="stable")
    w = weights[order].astype(dtype)
    first, second = np.take(w, few, axis=1), np.take(w, many, axis=1)
    ends = np.cumsum(np.bincount(which, minlength=len(drawn)))
    total = np.empty((len(weights), n_models))
    start = 0
    for counts, end in zip(drawn.astype(dtype), ends, strict=True):
        matrix = (counts @ by_fold).reshape(n_many, -1)
        inner = (second[start:end] @ matrix).reshape(end - start, n_models, n_few)
        total[order[start:end]] = np.matmul(inner, first[start:end, :, None])[:, :, 0]
        start = int(end)
    return total


def _distinct(folds: Counts) -> tuple[Counts, Counts]:
    """Distinct rows [N, F] of fold weights [B, F], and which of them each draw is [B]."""
    as_number = folds @ (int(folds.max()) + 1) ** np.arange(folds.shape[1])
    _, first, which = np.unique(as_number, return_index=True, return_inverse=True)
    return folds[first], which


def _smaller_first(few: Counts, many: Counts, above: Floats) -> tuple[Counts, Counts, Floats]:
    """The product contracts the larger class, the sum afterwards the smaller."""
    return (few, many, above) if len(few) <= len(many) else (many, few, above.swapaxes(-1, -2))


def _n_drawn(weights: Counts, few: Counts, many: Counts) -> tuple[Floats, Floats]:
    """[B] slides of either class in every draw."""
    as_floats = weights.astype(float)  # a product of whole numbers goes through no BLAS
    of_few, of_many = (np.bincount(side, minlength=weights.shape[1]).astype(float) for side in (few, many))
    return as_floats @ of_few, as_floats @ of_many


def _of_patients(above: Floats, few: Counts, many: Counts) -> tuple[Counts, Counts, Floats]:
    """Distinct patients of both sides, and H [R, few, many] summed over their slides, which are drawn together."""
    for axis, side in ((1, few), (2, many)):
        if len(np.unique(side)) < len(side):
            order = np.argsort(side, kind="stable")
            starts = np.unique(side[order], return_index=True)[1]
            above = np.add.reduceat(np.take(above, order, axis=axis), starts, axis=axis)
    return np.unique(few), np.unique(many), above


def _weighted_wins(above: Floats, weights: Counts, few: Counts, many: Counts, dtype: type[np.floating]) -> Floats:
    """Sum over i, j of w_i H[i, j] w_j in every draw: H [R, few, many], patient weights [B, P] to [B, R].

    A few rows of H and a few draws at a time, so that what a step makes stays in the processor's cache: at once the product
    [B, R few] would go through memory, which takes longer than the arithmetic. No sum is split, and all are exact.
    """
    n_rows, n_few, n_many = above.shape
    size = np.dtype(dtype).itemsize
    rows_at_once = max(1, BLOCK_BYTES // (n_few * n_many * size))
    draws_at_once = max(FEWEST_DRAWS_AT_ONCE, BLOCK_BYTES // (rows_at_once * n_few * size))
    total = np.empty((len(weights), n_rows))
    for start in range(0, n_rows, rows_at_once):
        rows = slice(start, start + rows_at_once)
        matrix = np.ascontiguousarray(above[rows].reshape(-1, n_many).T, dtype=dtype)  # [many, rows few]
        for first in range(0, len(weights), draws_at_once):
            draws = slice(first, first + draws_at_once)
            w = weights[draws].astype(dtype)
            inner = (np.take(w, many, axis=1) @ matrix).reshape(len(w), -1, n_few)
            total[draws, rows] = np.matmul(inner, np.take(w, few, axis=1)[:, :, None])[:, :, 0]
    return total
