"""Metrics of tasks with three classes or more.

The classes are those of the cohort, as places from 0 to C - 1. A class that a test side lacks has no AUROC, and neither
has their mean: leaving it out would compare other questions over folds.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from milbench.metrics.binary import auroc
from milbench.metrics.weights import NAN, Floats, known_rows, weighted_mean

SMALLEST = float(np.finfo(float).eps)
"""A probability of 0 counts as this much in the log loss, as in scikit-learn."""


def predicted_class(probabilities: Floats) -> Floats:
    """Place [n] of the largest of the probabilities [n, C], the first of equals; NaN where one is NaN."""
    return np.where(np.isnan(probabilities).any(axis=1), np.nan, probabilities.argmax(axis=1).astype(float))


# ---- ranking -------------------------------------------------------------------------------------


def per_class_auroc(labels: Floats, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """AUROC of each class against the rest, [C]; NaN for a class that is absent or alone.

    Parameters
    ----------
    labels : [n], places of classes; NaN marks an unknown label and is left out.
    probabilities : [n, C]; rows need not sum to 1, since each column is ranked by itself.
    weights : [n], how often each row counts; once by default.
    """
    labels, probabilities, weights = known_rows(labels, probabilities, weights)
    columns = enumerate(probabilities.T)
    return np.array([auroc((labels == place).astype(float), column, weights) for place, column in columns])


def macro_auroc(labels: Floats, probabilities: Floats, weights: Floats | None = None) -> float:
    """Mean over classes of the AUROC against the rest; NaN where one class has none."""
    return float(np.mean(per_class_auroc(labels, probabilities, weights)))


def one_vs_one_auroc(labels: Floats, probabilities: Floats, weights: Floats | None = None) -> float:
    """Mean over pairs of classes of how well they are told apart (Hand and Till 2001); NaN where one is absent."""
    labels, probabilities, weights = known_rows(labels, probabilities, weights)
    values = []
    for a, b in combinations(range(probabilities.shape[1]), 2):
        pair = (labels == a) | (labels == b)
        for place in (a, b):
            is_place = (labels[pair] == place).astype(float)
            values.append(auroc(is_place, probabilities[pair, place], weights[pair]))
    return float(np.mean(values))


# ---- of chosen classes ---------------------------------------------------------------------------


def confusion(labels: Floats, predicted: Floats, n_classes: int, weights: Floats | None = None) -> Floats:
    """Weight of the rows of class i that were called j, [C, C]; all NaN where a call is no class.

    Parameters
    ----------
    labels, predicted : [n], places of classes.
    """
    labels, predicted, weights = known_rows(labels, predicted, weights)
    if not (are_places(labels, n_classes) and are_places(predicted, n_classes)):
        return np.full((n_classes, n_classes), np.nan)
    cells = (labels * n_classes + predicted).astype(int)
    table = np.bincount(cells, weights, minlength=n_classes**2)
    return np.asarray(table.reshape(n_classes, n_classes), dtype=float)


def balanced_accuracy_of_classes(
    labels: Floats, predicted: Floats, n_classes: int, weights: Floats | None = None
) -> float:
    """Mean over classes of the share that was found; NaN where a class is absent."""
    table = confusion(labels, predicted, n_classes, weights)
    of_class = table.sum(axis=1)
    return float(np.mean(np.diag(table) / of_class)) if (of_class > 0).all() else NAN


def macro_f1(labels: Floats, predicted: Floats, n_classes: int, weights: Floats | None = None) -> float:
    """Mean over all classes of F1; a class that is neither there nor called has F1 = 0. NaN without a row."""
    table = confusion(labels, predicted, n_classes, weights)
    if not table.sum() > 0:
        return NAN
    either = table.sum(axis=0) + table.sum(axis=1)
    return float(np.mean(np.divide(2 * np.diag(table), either, out=np.zeros(n_classes), where=either > 0)))


def are_places(values: Floats, n_classes: int) -> bool:
    """Whether all values are whole numbers from 0 to n_classes - 1."""
    return bool(np.isin(values, np.arange(n_classes)).all())


# ---- of probabilities ----------------------------------------------------------------------------


def multiclass_brier(labels: Floats, probabilities: Floats, weights: Floats | None = None) -> float:
    r"""Mean over rows of the squared distance of probabilities [n, C] and label, summed over classes.

    .. math:: \mathrm{Brier} = \frac{1}{n} \sum_i \sum_{k=1}^{C} \left( p_{ik} - [y_i = k] \right)^2
    """
    labels, probabilities, weights = known_rows(labels, probabilities, weights)
    is_class = labels[:, None] == np.arange(probabilities.shape[1])
    return weighted_mean(((probabilities - is_class) ** 2).sum(axis=1), weights)


def multiclass_log_loss(labels: Floats, probabilities: Floats, weights: Floats | None = None) -> float:
    """Mean over rows of -log of the probability of the label's class."""
    labels, probabilities, weights = known_rows(labels, probabilities, weights)
    if np.isnan(probabilities).any():
        return NAN
    of_label = probabilities[np.arange(len(labels)), labels.astype(int)]
    return weighted_mean(-np.log(np.clip(of_label, SMALLEST, 1 - SMALLEST)), weights)
