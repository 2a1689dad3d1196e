"""Validation score: what chooses a trial's epoch, the mean over its tasks of a score from 0 (worst) to 1 (best).

===========  =====================================================
kind         score of a task
===========  =====================================================
binary       AUROC over slides
multiclass   macro one-vs-rest AUROC over slides
ordinal      (1 + quadratic kappa of the decoded grade) / 2
regression   (1 + Pearson r in the user's units) / 2
survival     Harrell's c over patients, whose risk is the mean over their slides
===========  =====================================================

A task whose score is undefined on this side is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from milbench import metrics
from milbench.endpoints.answers import answers_of, decoded_grade
from milbench.endpoints.endpoint import event_of, time_of
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.training.evaluation import Predictions
from milbench.training.side import Side

Floats = NDArray[np.float64]


def validation_score(endpoints: Sequence[FittedEndpoint], side: Side, row: int, predictions: Predictions) -> float:
    """Mean over tasks of the trial in this row; NaN where no task has a score."""
    labels = side.labels(row)
    outputs = Outputs(endpoints)
    if outputs.all_binary:
        return metrics.mean_of_defined(metrics.auroc_per_task(labels, predictions.probabilities[row]))
    scores = [
        _score(endpoint, labels[:, task], predictions.probabilities[row][:, own], predictions.logits[row][:, own], side)
        for task, (endpoint, own) in enumerate(zip(endpoints, outputs.slices, strict=True))
    ]
    return metrics.mean_of_defined(np.array(scores))


def _score(
    endpoint: FittedEndpoint, labels: Floats, probabilities: Floats, logits: NDArray[np.float32], side: Side
) -> float:
    """Score of one task, from its labels [n], and its logits [n, width] with their sigmoids."""
    if endpoint.kind == "binary":
        return metrics.auroc(labels, probabilities[:, 0])
    answers, known = answers_of(endpoint, logits), ~np.isnan(labels)
    labels, answers = labels[known], answers[known]
    if endpoint.kind == "multiclass":
        return metrics.macro_auroc(labels, answers)
    if endpoint.kind == "ordinal":
        n_grades = len(endpoint.endpoint.classes)
        return (1 + metrics.quadratic_kappa(labels, decoded_grade(answers[:, 0], n_grades), n_grades)) / 2
    if endpoint.kind == "regression":
        return (1 + metrics.pearson(labels, answers[:, 0])) / 2
    patients = np.array(side.patient_ids or side.slide_ids, dtype=object)[known]
    labels, risks = _by_patient(patients, labels, answers[:, 0])
    return metrics.concordance(time_of(labels), event_of(labels), risks)


def _by_patient(patients: NDArray[np.object_], labels: Floats, risks: Floats) -> tuple[Floats, Floats]:
    """First label and mean risk of each patient."""
    _, first, codes = np.unique(patients.astype(str), return_index=True, return_inverse=True)
    return labels[first], np.bincount(codes, weights=risks) / np.bincount(codes)
