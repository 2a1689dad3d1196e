"""Stacking: whether trials that differ in their task only take their steps together.

On a GPU always. On a CPU where a step is so small that dispatching its operations costs more than computing them;
on large bags stacked products run slower there than one after the other. The limit is a measured one
(`benchmarks/stacking.py`) and not timed anew in each run, since the choice moves the last digits of results: the
same command must choose alike whatever else the machine is doing. Nor is a model run to find out: here it could
still hang or kill the process that has the whole run in its care.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MULTIPLY_ADDS_OF_EMBEDDING = 13e6
"""Of one trial's forward through its first layer, all bags of a step: below this a stack is faster on a CPU."""

WEIGHTS_OF_A_STACK = 2e6
"""First layers of all members together: with more, weights and Adam's moments (16 bytes each) leave the processor's
cache between two steps, while those of a single trial stay in it."""

USUAL_HIDDEN = 512
"""Width of the first layer of a model that has no argument `hidden`."""


def stacking_pays(
    in_features: int,
    hyperparameters: Mapping[str, Any],
    *,
    n_members: int,
    patches_of_a_step: float,
    on_gpu: bool,
) -> bool:
    """Whether `n_members` trials of one task each are faster stacked than one after the other.

    Parameters
    ----------
    patches_of_a_step : of all bags of an optimiser step together.
    """
    hidden = hyperparameters.get("hidden", USUAL_HIDDEN)
    weights = in_features * (hidden if isinstance(hidden, int) else USUAL_HIDDEN)
    is_small = patches_of_a_step * weights < MULTIPLY_ADDS_OF_EMBEDDING and n_members * weights < WEIGHTS_OF_A_STACK
    return n_members > 1 and (on_gpu or is_small)
