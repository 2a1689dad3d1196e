"""Oracle: the best AUC that any score of a binary task can have, from the generating model. Exact, no simulation.

Features depend on labels through the carriers only, so no score of the features beats one that knows the carriers:

- *carrier*: the task's own carrier. P(carrier | positive) = penetrance, P(carrier | negative) = leak, and the AUC of
  this one bit is 1/2 + |penetrance - leak| / 2.
- *joint*: P(label | the carriers of all tasks), the Bayes-optimal score. Co-mutated tasks tell of each other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.metrics import auroc
from milbench.simulate.optimum import best_auroc

Floats = NDArray[np.float64]

MOST_TASKS = 12
"""The joint oracle sums over all 2^T carrier vectors; beyond this it is not stated."""


class Oracle(NamedTuple):
    """AUC of the best scores, [T] each; `joint` is NaN beyond `MOST_TASKS`, `here` what carriers reach on this draw."""

    carrier: Floats
    joint: Floats
    here: Floats


def state_oracle(
    population: NDArray[np.bool_], targets: Floats, carriers: NDArray[np.int64], *, penetrance: float, leak: float
) -> Oracle:
    """Oracles of every task.

    Parameters
    ----------
    population : [R, T] label vectors whose frequencies are the generating distribution.
    targets, carriers : [S, T] labels (NaN = unknown) and carriers of the cohort that was drawn.
    """
    n_tasks = population.shape[1]
    carrier = np.full(n_tasks, 0.5 + abs(penetrance - leak) / 2)
    joint = _joint(population, penetrance, leak) if n_tasks <= MOST_TASKS else np.full(n_tasks, np.nan)
    sign = 1 if penetrance >= leak else -1
    here = [auroc(targets[:, task], sign * carriers[:, task].astype(float)) for task in range(n_tasks)]
    return Oracle(carrier, joint, np.array(here))


def _joint(population: NDArray[np.bool_], penetrance: float, leak: float) -> Floats:
    """AUC [T] of P(label | all carriers), over the distribution of label and carrier vectors."""
    n_tasks = population.shape[1]
    codes = (np.arange(2**n_tasks)[:, None] >> np.arange(n_tasks)) & 1  # [2^T, T] every vector there can be
    counts = np.bincount(population @ (1 << np.arange(n_tasks)), minlength=len(codes))
    vectors, weight = codes[counts > 0] == 1, counts[counts > 0] / counts.sum()  # [R, T], [R]
    chance = np.where(vectors, penetrance, leak)[:, None, :]  # [R, 1, T] P(carrier = 1 | label)
    seen = np.where(codes == 1, chance, 1 - chance).prod(axis=-1) * weight[:, None]  # [R, 2^T] P(labels, carriers)
    return np.array([best_auroc(seen[label].sum(axis=0), seen[~label].sum(axis=0)) for label in vectors.T])
