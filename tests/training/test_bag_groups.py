"""Bag groups: bags of one size go together, within limits that do not depend on the memory available."""

from __future__ import annotations

import pytest
import torch

from milbench.layout import Patches
from milbench.training.bag_groups import (
    BAGS_AT_ONCE,
    NUMBERS_AT_ONCE,
    PATCHES_OF_A_GROUP,
    IndexedBag,
    joins_evaluation,
    training_groups,
)


def test_bags_of_a_step_are_put_together_by_their_sizes_whatever_the_memory() -> None:
    """Bags that are divided draw other dropout masks than together."""
    sizes = [PATCHES_OF_A_GROUP // 2] * 4 + [PATCHES_OF_A_GROUP + 1] * 2
    groups = training_groups([IndexedBag(i, i, Patches(torch.empty(n, 1))) for i, n in enumerate(sizes)])
    assert [[bag.index for bag in group] for group in groups] == [[0, 1], [2, 3], [4], [5]]


@pytest.mark.parametrize(
    ("n_before", "shape", "n_patches_before", "joins"),
    [
        (0, (1, 2 * NUMBERS_AT_ONCE), 1, True),
        (1, (10, 4), 10, True),
        (1, (10, 4), 11, False),
        (BAGS_AT_ONCE, (10, 4), 10, False),
        (1, (2, NUMBERS_AT_ONCE // 4), 2, True),
        (2, (2, NUMBERS_AT_ONCE // 4), 2, False),
    ],
    ids=[
        "a big bag alone",
        "the same size",
        "another size",
        "a full group",
        "numbers at the limit",
        "numbers beyond it",
    ],
)
def test_a_bag_is_evaluated_with_the_bags_before_it_if_they_have_its_size_and_there_is_room(
    n_before: int, shape: tuple[int, int], n_patches_before: int, *, joins: bool
) -> None:
    group = [IndexedBag(i, i, Patches(torch.empty(n_patches_before, 1))) for i in range(n_before)]
    assert joins_evaluation(group, Patches(torch.empty(shape))) == joins
