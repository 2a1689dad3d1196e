"""Stacking: whether trials that differ only in their task take their steps together.

On a GPU they always do. On a CPU they do if a step is so small that dispatching its operations costs more than
computing them. On large bags, a CPU computes stacked products slower than the same products one after the other.

The limit was measured once (`benchmarks/stacking.py`). It is not timed again in each run: the choice changes the last
digits of results, and the same command must choose the same way whatever else the machine is doing. No model is run to
find out either: it could hang or kill the process that supervises the whole run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MULTIPLY_ADDS_OF_EMBEDDING = 13e6
"""Multiply-adds of one trial's forward through its first layer, for all bags of a step. Below, a CPU is faster stacked."""

WEIGHTS_OF_A_STACK = 2e6
"""Weights in the first layers of all members together. If there are more, weights, gradients and Adam's moments (16 bytes
per weight) leave the processor's cache between two steps, while those of a single trial stay in it."""

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
    patches_of_a_step : the sum over all bags of an optimiser step.
    """
    hidden = hyperparameters.get("hidden", USUAL_HIDDEN)
    weights = in_features * (hidden if isinstance(hidden, int) else USUAL_HIDDEN)
    is_small = patches_of_a_step * weights < MULTIPLY_ADDS_OF_EMBEDDING and n_members * weights < WEIGHTS_OF_A_STACK
    return n_members > 1 and (on_gpu or is_small)
