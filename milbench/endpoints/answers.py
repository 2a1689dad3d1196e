"""Answers: logits as the numbers that are stored of a slide, in the user's words and units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from milbench.endpoints.fitted import FittedEndpoint

Floats = NDArray[np.float64]


def answers_of(fitted: FittedEndpoint, logits: NDArray[np.float32]) -> Floats:
    """Answers [n, A] of one task's logits [n, width], in the order of `fitted.answers`.

    binary: the probability. Multiclass: the probability of each class. Ordinal: the expected grade, then the
    probability of each grade. Regression: the value in its own units. Survival: the risk, then the probability to be
    alive beyond each inner edge of the time bins.
    """
    from scipy.special import expit, log_expit, softmax  # not at the top: workers of binary trials need no SciPy

    z = logits.astype(np.float64)
    if fitted.kind == "multiclass":
        return np.asarray(softmax(z, axis=1))
    if fitted.kind == "ordinal":
        by_grade = _probabilities_of_grades(fitted, z)
        return np.column_stack([by_grade @ np.arange(by_grade.shape[1]), by_grade])
    if fitted.kind == "regression":
        return _value(fitted, z)
    if fitted.loss == "nll":
        survival = np.exp(np.cumsum(log_expit(-z), axis=1))  # [n, K] S_1, ..., S_K
        return np.column_stack([-survival.sum(axis=1), survival[:, :-1]])
    return z if fitted.loss == "cox" else np.asarray(expit(z))


def decoded_grade(expected: Floats, n_grades: int) -> Floats:
    """Grade that quadratic kappa compares: the expected grade, rounded half up.

    Every ordinal loss has it, and so have patients and ensembles, whose expected grade is a mean. Official CORN counts
    the thresholds with P(y > k) > 0.5 instead, the median of the grades; official "ce" takes the most probable one.
    """
    return np.clip(np.floor(expected + 0.5), 0, n_grades - 1)


def _probabilities_of_grades(fitted: FittedEndpoint, z: Floats) -> Floats:
    """Probabilities [n, C]; rows sum to 1."""
    from scipy.special import expit, softmax

    if fitted.loss == "ce":
        return np.asarray(softmax(z, axis=1))
    n_grades = len(fitted.endpoint.classes)
    above: Floats = np.cumprod(expit(z), axis=1) if fitted.loss == "corn" else _above(z, n_grades)  # P(y > k)
    at_least: Floats = np.hstack([np.ones((len(z), 1)), above, np.zeros((len(z), 1))])  # P(y >= k) of k = 0, ..., C
    return at_least[:, :-1] - at_least[:, 1:]


def _above(z: Floats, n_grades: int) -> Floats:
    """P(y > k) [n, C - 1] of an expected grade [n, 1]: it is shared between the two grades beside it, and by no others.

    The loss "l1" learns no probabilities. These are the narrowest that have the expected grade as their mean.
    """
    return np.asarray(np.clip(z - np.arange(n_grades - 1), 0, 1)) + 0.0  # no -0.0, which a table would show


def _value(fitted: FittedEndpoint, z: Floats) -> Floats:
    """Values [n, 1] of standardised ones."""
    values: Floats = z * fitted.scale + fitted.center
    if fitted.endpoint.transform == "none":
        return values
    with np.errstate(over="ignore"):  # infinity is an answer that whoever stores it refuses
        return np.asarray(np.expm1(values))
