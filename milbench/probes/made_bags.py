"""Made bags: patches of a world whose concepts are known, so that the best answer to every test is known too.

A patch is noise N(0, 1) in D dimensions. If it shows a concept, the concept's direction is added to it, so far that a
patch with the concept is told from one without in almost every case. What a model fails to learn is then the rule of the
bag, and not the look of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

WIDTH = 16
"""Number D of features."""

MARKER, SECOND, POISON, WITNESS = 0, 1, 2, 3
"""Concepts: what the label asks for, a second one, one that marks the other class in training alone, and a rare one."""

STRENGTH = {MARKER: 6.0, SECOND: 6.0, POISON: 8.0, WITNESS: 10.0}
"""How far a concept moves a patch, in standard deviations of the noise."""

PARTS = ("train", "validation", "test")


class MadeBag(NamedTuple):
    """One bag.

    Attributes
    ----------
    features : float32 [N, D].
    coords : float32 [N, 2], (x, y) in patches: a grid, in rows from the top unless the test says otherwise.
    best : one number per task: what the best possible reader of the patches says, higher = more likely positive.
    labels : 0 or 1 per task; empty = the label that was asked for.
    """

    features: NDArray[np.float32]
    coords: NDArray[np.float32]
    best: tuple[float, ...] = ()
    labels: tuple[int, ...] = ()


class World:
    """Source of the bags of one test, seed and part: all that is drawn comes from here.

    Parameters
    ----------
    name : of the test.
    seed : another seed gives other directions and other bags.
    part : "train", "validation" or "test". All parts of a seed have the same directions.
    """

    def __init__(self, name: str, seed: int, part: str) -> None:
        key = [seed, crc32(name.encode())]
        axes, _ = np.linalg.qr(np.random.default_rng(key).normal(size=(WIDTH, WIDTH)))
        self.directions: NDArray[np.float64] = axes.T  # [D, D], row c is concept c
        self.part = part
        self.is_test = part == "test"
        self.rng = np.random.default_rng([*key, 1 + PARTS.index(part)])

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def one_of(self, values: Sequence[int]) -> int:
        """One of the values."""
        return int(values[self.number(0, len(values) - 1)])

    def bag(
        self,
        size: int,
        counts: Mapping[int, int],
        *,
        places: Mapping[int, Sequence[int]] | None = None,
        columns: int | None = None,
    ) -> MadeBag:
        """A bag of `size` patches.

        Parameters
        ----------
        counts : number of patches per concept. They lie at random, and never two in one patch.
        places : patches [0, size) of a concept, where the test says which.
        columns : width of the grid; a square without it.
        """
        taken = {concept: list(own) for concept, own in (places or {}).items()}
        free = np.setdiff1d(np.arange(size), [place for own in taken.values() for place in own])
        drawn = iter(self.rng.permutation(free))
        taken |= {concept: [int(next(drawn)) for _ in range(count)] for concept, count in counts.items()}
        features = self.rng.normal(size=(size, WIDTH))
        for concept, own in taken.items():
            features[own] += STRENGTH[concept] * self.directions[concept]
        return MadeBag(features.astype(np.float32), grid(size, columns or ceil(sqrt(size))))

    def shows(self, bag: MadeBag, concept: int) -> NDArray[np.bool_]:
        """Which patches [N] show the concept, as far as the patch alone tells."""
        return np.asarray(self._along(bag, concept) > STRENGTH[concept] / 2)

    def highest(self, bag: MadeBag, concept: int) -> float:
        """The surest patch's evidence of the concept."""
        return float(self._along(bag, concept).max())

    def _along(self, bag: MadeBag, concept: int) -> NDArray[np.float64]:
        return np.asarray(bag.features.astype(np.float64) @ self.directions[concept])


def grid(size: int, columns: int) -> NDArray[np.float32]:
    """Coordinates [N, 2] of `size` patches in rows of `columns`, the last row perhaps shorter."""
    place = np.arange(size)
    return np.stack([place % columns, place // columns], axis=1).astype(np.float32)


def adjacent_pairs(coords: NDArray[np.float32], chosen: NDArray[np.bool_]) -> int:
    """Number of pairs of chosen patches that touch, also at a corner."""
    own = coords[chosen]
    apart = np.abs(own[:, None] - own[None]).max(axis=-1)  # [n, n]
    return int((apart == 1).sum()) // 2
