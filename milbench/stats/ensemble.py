"""Ensemble: one score per patient, from all trainings of a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from milbench.stats.grid import TaskScores

Floats = NDArray[np.float64]

SATURATED = 1e-7
"""Probabilities nearer to 0 or 1 than float32 tells apart have no finite logit."""


def ensemble(task: TaskScores) -> tuple[Floats, Floats]:
    """Labels [p] and mean logits [M, p] of the p labelled test patients.

    The mean is over folds and seeds, then over the patient's slides. All NaN where the test sides of folds differ,
    since then no slide was scored by all trainings; NaN for a model that lacks one.
    """
    patients = np.unique(task.patients)
    labels = task.patient_label[patients]
    if task.test_side_differs:
        return labels, np.full((len(task.scores), len(patients)), np.nan)
    slides = logit(np.clip(task.scores, SATURATED, 1 - SATURATED)).mean(axis=(1, 2))  # [M, S]
    member = (task.patients[:, None] == patients).astype(float)  # [S, p]
    return labels, slides @ (member / member.sum(axis=0))
