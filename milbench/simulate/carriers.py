"""Carriers: which phenotype patients show in their tissue, task by task. Models can see no more of a label than this."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from milbench.simulate.design import Design
from milbench.simulate.labels import LabelTable

STREAM_CARRIERS = 2


def draw_carriers(design: Design, labels: LabelTable, seed: int) -> NDArray[np.int64]:
    """Carriers [S, T]: 1 of positive slides in a share `penetrance`, of negative ones in a share `leak`, else 0.

    One draw per patient and task, so that slides of one patient with one label agree. Where the label is unknown
    it is taken as positive with the task's prevalence. A task of another kind has its level in place of 0 and 1.
    """
    binary = labels.binary
    targets = labels.slides[[labels.tasks[place] for place in binary]].to_numpy(dtype=np.float64)
    patients, owner = np.unique(labels.slides["patient_id"].to_numpy(dtype=str), return_inverse=True)
    rng = np.random.default_rng([seed, STREAM_CARRIERS])
    draw, guess = rng.random((2, len(patients), len(binary)))
    prevalence = labels.population.mean(axis=0)
    positive = np.where(np.isnan(targets), guess[owner] < prevalence, targets == 1)
    carriers = np.zeros((len(owner), len(labels.tasks)), dtype=np.int64)
    carriers[:, binary] = draw[owner] < np.where(positive, design.penetrance, design.leak)
    for task in labels.kinds:
        carriers[:, task.place] = task.levels(seed, len(patients))[owner]
    return carriers
