"""Patch size: the edge of a patch, guessed by where the patches of a slide lie, where nothing tells it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RESOLUTION = 2**20
"""Parts of a slide's extent to which fractions of a unit are told apart: float32 micrometres are uneven below."""


def guessed_size(corners: NDArray[Any]) -> tuple[float, float]:
    """Edge of a patch by the distances between corners [N, 2], and the share of the patches that bear it out.

    The commonest distance from a patch to the nearest one in its row or column. Not the smallest step between any two
    columns: every piece of tissue may have a grid of its own, and two grids are shifted by any amount.
    """
    unit = _least_step(corners)
    marks = np.unique(np.round(corners / unit).astype(np.int64), axis=0)
    nearest = np.minimum(_to_nearest(marks, along=0), _to_nearest(marks, along=1))
    known = nearest[np.isfinite(nearest)]
    if not len(known):
        return _smallest_distance(corners), 0.0
    distances, counts = np.unique(known, return_counts=True)
    size = float(distances[np.argmax(counts)])  # the smaller one of two that are equally common
    off = np.abs(known - np.round(known / size) * size)
    return size * unit, float((off <= (0 if unit == 1 else np.round(known / size))).sum() / len(marks))


def _least_step(corners: NDArray[Any]) -> float:
    """The difference that counts: 1 for whole numbers, else a small part of the slide."""
    if np.array_equal(corners, np.trunc(corners)):
        return 1.0
    return float(np.ptp(corners, axis=0).max() / RESOLUTION) or 1.0


def _to_nearest(marks: NDArray[np.int64], along: int) -> NDArray[np.float64]:
    """Distance [N] from every patch to the nearest other one in its row (`along` 0) or column (1); infinite if alone."""
    order = np.lexsort((marks[:, along], marks[:, 1 - along]))
    line, place = marks[order, 1 - along], marks[order, along]
    step = np.where(np.diff(line) == 0, np.diff(place), np.inf)
    nearest = np.full(len(marks), np.inf)
    nearest[order] = np.minimum(np.append(step, np.inf), np.insert(step, 0, np.inf))
    return nearest


def _smallest_distance(corners: NDArray[Any]) -> float:
    """Smallest step between two columns or rows; 1 where there is but one patch."""
    steps = np.concatenate([np.diff(np.unique(corners[:, axis])) for axis in (0, 1)])
    return float(steps.min()) if len(steps) else 1.0
