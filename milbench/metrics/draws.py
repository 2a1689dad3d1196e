"""Metrics of many draws of patients at once, as matrix products.

A bootstrap draws each row some number of times: `weights` [B, n], one row per draw. Every function here returns what the
function of the same name without `_draws` returns for each row of weights. Predictions are [..., n], so that models,
folds and seeds share one product; the result is [B, ...].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from milbench.metrics.multiclass import are_places
from milbench.metrics.ordinal import quadratic_kappa
from milbench.metrics.regression import is_constant, pearson, r2
from milbench.metrics.survival import comparable, favourable
from milbench.metrics.weights import Flags, Floats, Weights, ratio

BYTES_PER_STEP = 2 * 2**20
"""Largest array of a step, about what a core's cache holds."""
FEWEST_DRAWS = 64
"""Draws of a step, if there are as many: below, a product reads its matrix for too little arithmetic."""
CANCELS = 1e-3
"""If a draw's variance is a smaller share of its second moment, the difference of the two has lost digits."""

Metric = Callable[[Floats, Floats, Floats], float]


# ---- of pairs ------------------------------------------------------------------------------------


def concordance_draws(weights: Weights, time: Floats, event: Floats, risk: Floats) -> Floats:
    """Harrell's c, w'(P * C)w / w'Pw, with P the comparable pairs and C whether each is in favour."""
    known = ~(np.isnan(time) | np.isnan(event))
    weights, time, event = weights[:, known], time[known], event[known]
    events = np.flatnonzero(event == 1)
    longer = comparable(time, event, events)
    first = weights[:, events]
    pairs = _pair_sums(longer.astype(float), first, weights)
    won = (_pair_sums(longer * favourable(row, events), first, weights) for row in _rows_of(risk, known))
    return _shares(won, pairs, risk, known)


def auroc_draws(weights: Weights, targets: Floats, scores: Floats) -> Floats:
    """AUROC of one binary task."""
    known = ~np.isnan(targets)
    weights, positive = weights[:, known], targets[known] == 1
    first, second = weights[:, positive], weights[:, ~positive]
    won = (_pair_sums(_wins(row, positive), first, second) for row in _rows_of(scores, known))
    return _shares(won, first.sum(axis=1) * second.sum(axis=1), scores, known)


def per_class_auroc_draws(weights: Weights, labels: Floats, probabilities: Floats) -> Floats:
    """AUROC of each class against the rest, of probabilities [..., n, C]: [B, ..., C]."""
    columns = np.moveaxis(probabilities, -1, 0)  # [C, ..., n]
    of_class = [
        auroc_draws(weights, np.where(np.isnan(labels), np.nan, labels == place), column)
        for place, column in enumerate(columns)
    ]
    return np.stack(of_class, axis=-1)


def macro_auroc_draws(weights: Weights, labels: Floats, probabilities: Floats) -> Floats:
    """Mean over classes of the AUROC against the rest, of probabilities [..., n, C]; NaN where a draw lacks a class."""
    return np.asarray(per_class_auroc_draws(weights, labels, probabilities).mean(axis=-1))


def _wins(scores: Floats, positive: Flags) -> Floats:
    """1 where positive i scores above negative j, 1/2 where they are equal: [positives, negatives]."""
    return favourable(scores, np.flatnonzero(positive))[:, ~positive]


def _shares(won: Iterator[Floats], pairs: Floats, predictions: Floats, known: Flags) -> Floats:
    """Won pairs [B] of each prediction over all pairs [B]: [B, ...]; NaN for a prediction that holds one."""
    shape = predictions.shape[:-1]
    values = np.reshape([ratio(each, pairs) for each in won], (*shape, len(pairs)))
    values[np.isnan(predictions[..., known]).any(axis=-1)] = np.nan
    return np.moveaxis(values, -1, 0)


def _pair_sums(kernel: Floats, first: Weights, second: Weights) -> Floats:
    """Sum over i, j of first_i K[i, j] second_j for every draw: [r, c], [B, r] and [B, c] to [B]."""
    if kernel.shape[0] > kernel.shape[1]:  # the product contracts the longer side, the sum afterwards the shorter
        kernel, first, second = kernel.T, second, first
    dtype = exact_dtype(first, second)
    matrix = np.ascontiguousarray(kernel.T, dtype=dtype)
    sums = [
        np.einsum("br,br->b", second[rows].astype(dtype) @ matrix, first[rows].astype(dtype))
        for rows in _steps(len(first), max(kernel.shape[1], 1))
    ]
    return np.concatenate([np.empty(0), *sums])


def exact_dtype(first: Weights, second: Weights, terms: int = 1) -> type[np.floating]:
    """float32 where it holds every sum over pairs of up to `terms` wins exactly, else float64.

    With whole weights all terms are whole numbers of halves. While the largest sum stays under 2^24 halves float32
    rounds nothing, in whatever order a BLAS adds, and twice as many fit into a step.
    """
    if not (_whole(first) and _whole(second)) or not len(first):
        return np.float64
    largest = 2 * terms * int(first.sum(axis=1).max()) * int(second.sum(axis=1).max())
    return np.float32 if largest < 2**24 else np.float64


def _whole(weights: Weights) -> bool:
    return np.issubdtype(weights.dtype, np.integer) or bool((weights == np.floor(weights)).all())


# ---- of moments ----------------------------------------------------------------------------------


def pearson_draws(weights: Weights, labels: Floats, predictions: Floats) -> Floats:
    """Pearson's r, from weighted moments."""
    w, y, x = _known(weights, labels, predictions)
    z_x, z_y = _standardised(x), _standardised(y[None])
    m_x, m_xx, m_xy = _means(w, z_x, z_x**2, z_x * z_y)
    m_y, m_yy = _means(w, z_y, z_y**2)
    v_x, v_y = m_xx - m_x**2, m_yy - m_y**2
    with np.errstate(invalid="ignore"):
        values = np.clip(ratio(m_xy - m_x * m_y, np.sqrt(v_x * v_y)), -1, 1)
    doubtful = (v_x <= CANCELS * m_xx) | (v_y <= CANCELS * m_yy)
    return _shaped(_again(values, doubtful, pearson, w, y, x), x, predictions)


def r2_draws(weights: Weights, labels: Floats, predictions: Floats) -> Floats:
    """1 - SSE / SST, with SST about the mean of the draw's labels."""
    w, y, x = _known(weights, labels, predictions)
    centred = y[None] - y.mean() if len(y) else y[None]
    with np.errstate(over="ignore", invalid="ignore"):
        (error,) = _means(w, (x - y) ** 2)
    m_y, m_yy = _means(w, centred, centred**2)
    variance = m_yy - m_y**2
    values = 1 - ratio(error, variance)
    doubtful = np.broadcast_to(variance <= CANCELS * m_yy, values.shape)
    return _shaped(_again(values, doubtful, r2, w, y, x), x, predictions)


def mae_draws(weights: Weights, labels: Floats, predictions: Floats) -> Floats:
    """Mean absolute error."""
    w, y, x = _known(weights, labels, predictions)
    (values,) = _means(w, np.abs(x - y))
    return _shaped(values, x, predictions)


def kappa_draws(weights: Weights, labels: Floats, predicted: Floats, n_classes: int) -> Floats:
    """Quadratic kappa: 1 - E(y - x)^2 / (E y^2 + E x^2 - 2 E y E x), which is the form over the confusion table."""
    w, y, x = _known(weights, labels, predicted)
    if not are_places(y, n_classes):
        return np.full((len(w), *predicted.shape[:-1]), np.nan)
    x = np.where([[are_places(row, n_classes)] for row in x], x, np.nan) if len(x) else x
    error, m_x, m_xx = _means(w, (x - y) ** 2, x, x**2)
    m_y, m_yy = _means(w, y[None], y[None] ** 2)
    by_chance = m_yy + m_xx - 2 * m_y * m_x
    values = 1 - ratio(error, by_chance)

    def kappa(labels: Floats, predictions: Floats, weights: Floats) -> float:
        return quadratic_kappa(labels, predictions, n_classes, weights)

    doubtful = by_chance <= CANCELS * (m_yy + m_xx)
    return _shaped(_again(values, doubtful, kappa, w, y, x), x, predicted)


def _known(weights: Weights, labels: Floats, predictions: Floats) -> tuple[Floats, Floats, Floats]:
    """Weights [B, k], labels [k] and predictions [m, k] of rows with a known label."""
    known = ~np.isnan(labels)
    return weights[:, known].astype(float), labels[known], _rows_of(predictions, known).astype(float)


def _standardised(values: Floats) -> Floats:
    """Rows [m, k] about their mean, in units of their spread; NaN where a row is constant or not finite."""
    constant = np.array([is_constant(row) for row in values], dtype=bool)
    with np.errstate(all="ignore"):
        centred = values - values.mean(axis=1, keepdims=True) if values.size else values
        scaled = np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True))) if values.size else values
    scaled[constant] = np.nan
    return scaled


def _means(weights: Floats, *columns: Floats) -> list[Floats]:
    """Weighted means of each [m, k] in every draw: [B, m]; NaN for a row that holds one, and where nothing is drawn."""
    total = weights.sum(axis=1)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        return [ratio(weights @ column.T, total) for column in columns]


def _again(values: Floats, doubtful: Flags, metric: Metric, weights: Floats, labels: Floats, rows: Floats) -> Floats:
    """`values` [B, m] with the doubtful ones from the metric itself, which subtracts each draw's mean first."""
    for draw, row in np.argwhere(doubtful):
        values[draw, row] = metric(labels, rows[row], weights[draw])
    return values


def _shaped(values: Floats, rows: Floats, predictions: Floats) -> Floats:
    """`values` [B, m] as [B, ...]; NaN for predictions that are not finite, and where they are too large to square."""
    values[~np.isfinite(values)] = np.nan
    values[:, ~np.isfinite(rows).all(axis=1)] = np.nan
    return values.reshape(len(values), *predictions.shape[:-1])


# ---- steps ---------------------------------------------------------------------------------------


def _rows_of(predictions: Floats, known: Flags) -> Floats:
    """Predictions [..., n] as [m, k], of the k known rows."""
    return predictions.reshape(prod(predictions.shape[:-1]), len(known))[:, known]


def _steps(draws: int, columns: int) -> list[slice]:
    step = max(FEWEST_DRAWS, BYTES_PER_STEP // (8 * columns))
    return [slice(start, start + step) for start in range(0, draws, step)]
