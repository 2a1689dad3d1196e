"""Carriers: which patients show a task's phenotype in their tissue. Models can see no more of a label than this."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from milbench.simulate.design import Design
from milbench.simulate.labels import LabelTable

STREAM_CARRIERS = 2


def draw_carriers(design: Design, labels: LabelTable, seed: int) -> NDArray[np.bool_]:
    """Carriers [S, T]: of positive slides a share `penetrance`, of negative ones `leak`.

    One draw per patient and task, so that slides of one patient with one label agree. Where the label is unknown
    it is taken as positive with the task's prevalence.
    """
    targets = labels.slides[list(labels.tasks)].to_numpy(dtype=np.float64)
    patients, owner = np.unique(labels.slides["patient_id"].to_numpy(dtype=str), return_inverse=True)
    rng = np.random.default_rng([seed, STREAM_CARRIERS])
    draw, guess = rng.random((2, len(patients), len(labels.tasks)))
    prevalence = labels.population.mean(axis=0)
    positive = np.where(np.isnan(targets), guess[owner] < prevalence, targets == 1)
    return np.asarray(draw[owner] < np.where(positive, design.penetrance, design.leak))
