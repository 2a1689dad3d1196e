"""Probe: one test of what a model can learn: bags, sizes, and what each verdict means for a user.

A test is one function that makes one bag::

    @probe(title="Presence", yes="...", no="...")
    def presence(world: World, label: int) -> MadeBag:
        '''Positive if a marker is present.'''
        bag = world.bag(30, {MARKER: label * world.number(1, 3)})
        return bag._replace(best=(world.highest(bag, MARKER),))

Write it into `rules.py`, `layouts.py` or `conditions.py`, and `catalogue.py` finds it. The function's name is the test's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import cleandoc
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.probes.made_bags import PARTS, MadeBag, World

MakeBag = Callable[[World, int], MadeBag]


class Part(NamedTuple):
    """Bags of one part of a test.

    Attributes
    ----------
    bags : S bags.
    labels : [S, T] in {0, 1}: what the model is trained on, in part flipped if the test says so.
    best : [S, T], what the best possible reader says.
    """

    bags: list[MadeBag]
    labels: NDArray[np.float64]
    best: NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """One test.

    Attributes
    ----------
    name, title : for `--tests`, and for tables.
    about : what the bags are, in two sentences; the docstring of the function.
    make : makes one bag of a label.
    yes, no, cheats : what the verdict means for a user. `cheats` is empty if the test lays no trap.
    sizes : bags for training, validation and test.
    epochs, bags_per_step : of the training.
    flipped : share of the labels for training and validation that are wrong.
    n_tasks : tasks of the test; one of several is for multi-task models alone.
    largest : patches of the largest bag.
    """

    name: str
    title: str
    about: str
    make: MakeBag
    yes: str
    no: str
    cheats: str = ""
    sizes: tuple[int, int, int] = (200, 100, 200)
    epochs: int = 24
    bags_per_step: int = 8
    flipped: float = 0.0
    n_tasks: int = 1
    largest: int = 200

    def part(self, name: str, seed: int) -> Part:
        """Bags of "train", "validation" or "test": half of them positive."""
        world = World(self.name, seed, name)
        asked = [place % 2 for place in range(self.sizes[PARTS.index(name)])]
        bags = [self.make(world, label) for label in asked]
        labels = np.array([bag.labels or (label,) for bag, label in zip(bags, asked, strict=True)], dtype=np.float64)
        if self.flipped and not world.is_test:
            wrong = world.rng.permutation(len(bags))[: round(self.flipped * len(bags))]
            labels[wrong] = 1 - labels[wrong]
        return Part(bags, labels, np.array([bag.best for bag in bags]))


def probe(
    *,
    title: str,
    yes: str,
    no: str,
    cheats: str = "",
    sizes: tuple[int, int, int] = (200, 100, 200),
    epochs: int = 24,
    bags_per_step: int = 8,
    flipped: float = 0.0,
    n_tasks: int = 1,
    largest: int = 200,
) -> Callable[[MakeBag], Probe]:
    """Decorator that makes a test of a function that makes one bag; arguments as in `Probe`."""

    def made(make: MakeBag) -> Probe:
        about = " ".join(cleandoc(make.__doc__ or "").split())
        return Probe(
            make.__name__, title, about, make, yes, no, cheats, sizes, epochs, bags_per_step, flipped, n_tasks, largest
        )  # fmt: skip

    return made
