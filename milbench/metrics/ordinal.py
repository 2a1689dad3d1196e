"""Metrics of tasks with grades in an order.

A grade is its place in the declared order, from 0 to C - 1, so that a grade which nobody has keeps its place on the scale.
`endpoints.answers.decoded_grade` makes a grade of an expected grade.
"""

from __future__ import annotations

import numpy as np

from milbench.metrics.multiclass import confusion
from milbench.metrics.weights import Floats, quotient


def quadratic_kappa(labels: Floats, predicted: Floats, n_classes: int, weights: Floats | None = None) -> float:
    r"""Cohen's kappa with weights (i - j)^2 over all grades; NaN where truth and calls are all one and the same grade.

    .. math::

        \kappa = 1 - \frac{\sum_{i,j} (i - j)^2 \, O_{ij}}{\sum_{i,j} (i - j)^2 \, E_{ij}}, \quad
        E_{ij} = \frac{1}{n} \sum_k O_{ik} \sum_k O_{kj}

    Parameters
    ----------
    labels, predicted : [n], places of grades; a NaN label is left out.
    weights : [n], how often each row counts; once by default.
    """
    table = confusion(labels, predicted, n_classes, weights)
    grades = np.arange(n_classes)
    distance = (grades[:, None] - grades) ** 2
    observed = (distance * table).sum()
    by_chance = (distance * np.outer(table.sum(axis=1), table.sum(axis=0))).sum()
    return 1 - quotient(float(observed * table.sum()), float(by_chance))
