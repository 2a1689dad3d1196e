"""Layouts: tests of where patches lie on the slide, and of the order in which the file lists them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from milbench.probes.made_bags import MARKER, SECOND, MadeBag, World, adjacent_pairs, grid
from milbench.probes.probe import probe

SIZE = 40


@probe(
    title="Neighbourhood",
    yes="It can tell patches that lie together from patches that are scattered.",
    no="It does not see where patches lie: what lies together and what is scattered is the same to it.",
)
def neighbours(world: World, label: int) -> MadeBag:
    """6 of 40 patches show the marker: in one block of 2 x 3 in positive bags, no two of them touching in negative bags.
    The file lists the patches row by row; the grid has 6 to 9 columns, and the file does not say how many.
    """
    columns = world.number(6, 9)
    places = _block(world, columns) if label else _scattered(world, columns)
    bag = world.bag(SIZE, {}, places={MARKER: places}, columns=columns)
    return bag._replace(best=(float(adjacent_pairs(bag.coords, world.shows(bag, MARKER))),))


@probe(
    title="Order of the file",
    yes="It answers by what the patches show, not by where the file lists them.",
    no="It does not reliably answer by what the patches show.",
    cheats="It learned an order of the file. Features from another extractor, or in another order, can turn its answers round.",
)
def order(world: World, label: int) -> MadeBag:
    """2 of 40 patches of a positive bag show the marker. All bags show a second concept 4 times: among the first 10 of the
    file in training positives, among the last 10 in training negatives, and the other way round at test time.
    """
    is_first = bool(label) != world.is_test
    places = world.rng.permutation(10)[:4] + (0 if is_first else SIZE - 10)
    bag = world.bag(SIZE, {MARKER: 2 * label}, places={SECOND: places.tolist()})
    return bag._replace(best=(world.highest(bag, MARKER),))


def _block(world: World, columns: int) -> Sequence[int]:
    """Places of a block of 2 x 3 or 3 x 2 patches."""
    wide, high = (3, 2) if world.number(0, 1) else (2, 3)
    left, top = world.number(0, columns - wide), world.number(0, SIZE // columns - high)
    return [(top + row) * columns + left + column for row in range(high) for column in range(wide)]


def _scattered(world: World, columns: int) -> Sequence[int]:
    """Places of 6 patches, no two of which touch: drawn again until they fit."""
    coords = grid(SIZE, columns)
    while True:
        chosen: list[int] = []
        for place in world.rng.permutation(SIZE).tolist():
            if all(np.abs(coords[place] - coords[other]).max() > 1 for other in chosen):
                chosen.append(place)
            if len(chosen) == 6:
                return chosen
