"""Stacking: whether trials that differ only in their task take their steps together; in a search, also in their rates.

And whether those do that differ only in their fold.

On a GPU they do, unless many configurations would fill its memory. On a CPU they do if a step is so small that
dispatching its operations costs more than computing them. On large bags, a CPU computes stacked products slower than the
same products one after the other.

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

WEIGHTS_OF_CONFIGURATIONS_ON_A_GPU = 100e6
"""Weights in the first layers of all members, if they have more than one configuration: 2 GB with all that goes with them.
The tasks of one configuration have no such limit."""

MULTIPLY_ADDS_OF_FOLDS = 3e6
"""The same limit as `MULTIPLY_ADDS_OF_EMBEDDING`, where the members differ in their fold. Each has bags of its own, which fill
the cache sooner than one bag for all (`benchmarks/fold_stacks.py`)."""

FEWEST_FOLDS = 4
"""Folds from which on side by side was clearly faster; three were as fast as one after the other for the largest models."""

USUAL_HIDDEN = 512
"""Width of the first layer of a model that has no argument `hidden`."""


def stacking_pays(
    in_features: int,
    hyperparameters: Mapping[str, Any],
    *,
    n_members: int,
    patches_of_a_step: float,
    on_gpu: bool,
    n_configurations: int = 1,
) -> bool:
    """Whether `n_members` trials are faster stacked than one after the other.

    Parameters
    ----------
    n_configurations : of a search, among the members.
    patches_of_a_step : the sum over all bags of an optimiser step.
    """
    hidden = hyperparameters.get("hidden", USUAL_HIDDEN)
    weights = in_features * (hidden if isinstance(hidden, int) else USUAL_HIDDEN)
    is_small = patches_of_a_step * weights < MULTIPLY_ADDS_OF_EMBEDDING and n_members * weights < WEIGHTS_OF_A_STACK
    fits_gpu = n_configurations == 1 or n_members * weights < WEIGHTS_OF_CONFIGURATIONS_ON_A_GPU
    return n_members > 1 and (fits_gpu if on_gpu else is_small)


def fold_stacking_pays(
    in_features: int,
    hyperparameters: Mapping[str, Any],
    *,
    n_members: int,
    bags_per_step: int,
    patches_of_a_step: float,
    are_equal: bool,
    on_gpu: bool,
) -> bool:
    """Whether trials that differ in their fold are faster side by side than one after the other.

    With one bag per step they are not: to dispatch the operations of three trials together takes as long as to dispatch those
    of each. On a GPU it was not measured.

    Parameters
    ----------
    are_equal : whether all bags have one number of patches; only then can steps of several bags be taken together.
    patches_of_a_step : the sum over all bags of a trial's optimiser step.
    """
    small = stacking_pays(
        in_features, hyperparameters, n_members=n_members, patches_of_a_step=patches_of_a_step, on_gpu=False
    )
    hidden = hyperparameters.get("hidden", USUAL_HIDDEN)
    weights = in_features * (hidden if isinstance(hidden, int) else USUAL_HIDDEN)
    is_smaller = patches_of_a_step * weights < MULTIPLY_ADDS_OF_FOLDS
    is_worth_it = n_members >= FEWEST_FOLDS and bags_per_step > 1 and are_equal and not on_gpu
    return small and is_smaller and is_worth_it
