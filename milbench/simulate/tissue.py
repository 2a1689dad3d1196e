"""Tissue: where a slide's patches lie, and which of them are tumour."""

from __future__ import annotations

from math import ceil, exp, isqrt
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from milbench.simulate.design import Design

PATCH_SIZE = 512
"""Level-0 pixels: 256 at 20x on a slide scanned at 40x."""

ROOM = 1.8
"""Lattice cells for each patch: tissue covers a bit more than half of a slide."""

Bools = NDArray[np.bool_]


class Tissue(NamedTuple):
    """N patches in raster order.

    Attributes
    ----------
    cells : int [N, 2], column and row on the lattice.
    tumour : bool [N], a coherent region.
    """

    cells: NDArray[np.int64]
    tumour: Bools

    def coords(self) -> NDArray[np.int32]:
        """Top-left corners [N, 2] in level-0 pixels."""
        return (self.cells * PATCH_SIZE).astype(np.int32)


def grow_tissue(design: Design, rng: Generator) -> Tissue:
    """A slide's tissue: a blob on a lattice, or the full square."""
    n_patches = _patch_count(design, rng)
    side = isqrt(n_patches) if design.raster else ceil((ROOM * n_patches) ** 0.5)
    covered = _top(_smooth_field(side, rng).ravel(), n_patches)
    rows, columns = np.divmod(np.flatnonzero(covered), side)
    field = _smooth_field(side, rng)[rows, columns]
    return Tissue(np.stack([columns, rows], axis=1), _top(field, max(round(design.tumour_share * n_patches), 1)))


def _patch_count(design: Design, rng: Generator) -> int:
    """Log-normal around the median, clipped at two standard deviations, rounded to the multiple."""
    if design.raster:
        return design.patches
    exponent = design.patches_sd * float(np.clip(rng.standard_normal(), -2, 2))
    return max(round(design.patches * exp(exponent) / design.patches_multiple), 1) * design.patches_multiple


def _smooth_field(side: int, rng: Generator) -> NDArray[np.float64]:
    """Noise [side, side] without fine detail: a Gaussian low pass, about an eighth of the side wide."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    spectrum = np.fft.rfft2(rng.standard_normal((side, side)))
    return np.fft.irfft2(spectrum * np.exp(-2 * (np.pi * frequency * side / 8) ** 2), s=(side, side))


def _top(values: NDArray[np.float64], count: int) -> Bools:
    """True at the `count` highest."""
    chosen = np.zeros(len(values), dtype=bool)
    chosen[np.argsort(values, kind="stable")[len(values) - count :]] = True
    return chosen


def side_by_side(cells: NDArray[np.int64], count: int, rng: Generator) -> Bools:
    """The `count` patches nearest to a random one, [N]."""
    offset = cells - cells[rng.integers(len(cells))]
    distance = (offset**2).sum(axis=1) + 0.5 * rng.random(len(cells))  # squares are whole: noise breaks ties only
    return _top(-distance, count)


def apart(cells: NDArray[np.int64], count: int, rng: Generator) -> Bools:
    """`count` random patches [N] of which no two touch, not even at a corner, as far as there is room."""
    chosen = np.zeros(len(cells), dtype=bool)
    free = np.ones(len(cells), dtype=bool)
    for _ in range(count):
        place = rng.choice(np.flatnonzero(free if free.any() else ~chosen))
        chosen[place] = True
        free &= np.abs(cells - cells[place]).max(axis=1) > 1
    return chosen
