"""Follow-up: how long the training patients of a fold were watched, which weighs what its test patients show.

Test patients never decide the weights: G and tau are of the training side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.endpoints.endpoint import Endpoint, event_of, time_of
from milbench.endpoints.fit import patient_labels
from milbench.metrics import Curve, censoring_survival, tau
from milbench.store.run import Run

Floats = NDArray[np.float64]


class FollowUp(NamedTuple):
    """Of the training patients of one fold and task.

    Attributes
    ----------
    censoring : G, the share that is still followed after a time.
    tau : the largest time with G of at least a tenth, in days.
    """

    censoring: Curve
    tau: float


def follow_ups(run: Run, dataset: str, tasks: Sequence[str], folds: Sequence[int]) -> dict[tuple[int, int], FollowUp]:
    """By places of task and fold; none where the run stored no labels."""
    if not run.label_file(dataset).exists():
        return {}
    labels, roles = run.labels(dataset), run.roles(dataset).set_index("patient_id")
    found = {}
    for column, fold in enumerate(folds):
        train = labels[labels["patient_id"].map(roles[f"fold_{fold}"]) == "train"]
        for row, task in enumerate(tasks):
            known = patient_labels(train, task, Endpoint("survival")).to_numpy(dtype=np.float64)
            times, events = time_of(known), event_of(known)
            found[row, column] = FollowUp(censoring_survival(times, events), tau(times, events))
    return found
