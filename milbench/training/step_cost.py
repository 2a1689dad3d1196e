"""Step cost: memory of a training step, alone and in a stack, and how many models of a stack fit into a budget."""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import NamedTuple, Protocol


class Cost(Protocol):
    """Memory of one model's step on one bag, without the weights, their gradients and the bag itself."""

    def of(self, n_patches: int) -> int:
        """Bytes of a step on a bag of `n_patches`."""
        ...


class FollowedCost(NamedTuple):
    """Cost between points that were followed: on a line between two of them, in proportion to patches beyond the last.

    Attributes
    ----------
    points : patches and bytes, both rising.
    """

    points: tuple[tuple[int, float], ...]

    def of(self, n_patches: int) -> int:
        """Bytes of a step on a bag of `n_patches`."""
        for (few, low), (many, high) in pairwise(((0, self.points[0][1]), *self.points)):
            if n_patches <= many:
                return ceil(low + (high - low) * (n_patches - few) / (many - few))
        many, high = self.points[-1]
        return ceil(high * n_patches / many)


class StepCost(NamedTuple):
    """Memory of a step by how it is taken.

    Attributes
    ----------
    alone : of one model that takes its step by itself.
    in_stack : of each model of a stack.
    """

    alone: Cost
    in_stack: Cost

    def of(self, n_patches: int, n_models: int) -> int:
        """Bytes of a step that so many models take together."""
        return self.alone.of(n_patches) if n_models == 1 else self.in_stack.of(n_patches) * n_models


def members_at_once(cost: StepCost, n_patches: int, n_members: int, budget_bytes: int) -> tuple[int, bool]:
    """Number of members of a stack that take their step on a bag together, and whether they must recompute.

    Parameters
    ----------
    cost : all members of a stack are the same model.
    n_members : at least 1.
    budget_bytes : for the activations of all members that run together; 0 = no limit.

    Returns
    -------
    As many of `n_members` as fit, at least 1; True if not even one fits, so that it must run inside `recomputing`.
    """
    if budget_bytes == 0:
        return n_members, False
    fit = min(n_members, budget_bytes // max(1, cost.in_stack.of(n_patches)))
    if fit > 1:
        return fit, False
    return 1, cost.alone.of(n_patches) > budget_bytes
