"""Bag groups: which bags of one size go through a model together, in a training step and in an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from milbench.layout import Patches

BAGS_AT_ONCE = 64
"""Bags that go through a model together at most. More bags save no time and cost memory."""

NUMBERS_AT_ONCE = 2**20
"""Numbers (patches times width) of the bags that are evaluated together. A single bag may have more.
Beyond this limit, putting bags side by side costs more than it saves (`benchmarks/together.py`)."""

PATCHES_OF_A_GROUP = 2000
"""Patches of the bags that go through a model together in a training step. A single bag may have more.
So few patches never exceed a step's memory. If memory decided which bags go together, dropout masks, which are drawn per
group, and with them results would depend on the memory available."""


@dataclass(frozen=True, slots=True)
class IndexedBag:
    """A slide on the device.

    Attributes
    ----------
    index : of the slide in its side.
    place : of the bag among those that wait with it: a step may see one slide twice.
    patches : of the slide.
    """

    index: int
    place: int
    patches: Patches

    @property
    def n_patches(self) -> int:
        """Number N of its patches."""
        return len(self.patches)


def training_groups(bags: Iterable[IndexedBag]) -> list[list[IndexedBag]]:
    """Groups of bags of one size, for one forward and backward each, in the order of their first bags."""
    groups: list[list[IndexedBag]] = []
    open_groups: dict[int, list[IndexedBag]] = {}
    for bag in bags:
        group = open_groups.get(bag.n_patches)
        if group is None or len(group) == BAGS_AT_ONCE or (len(group) + 1) * bag.n_patches > PATCHES_OF_A_GROUP:
            group = open_groups[bag.n_patches] = []
            groups.append(group)
        group.append(bag)
    return groups


def joins_evaluation(group: Sequence[IndexedBag], patches: Patches) -> bool:
    """Whether a bag is evaluated together with the bags of `group`, which come before it."""
    if not group:
        return True
    has_room = len(group) < BAGS_AT_ONCE and (len(group) + 1) * patches.features.numel() <= NUMBERS_AT_ONCE
    return has_room and len(patches) == group[0].n_patches
