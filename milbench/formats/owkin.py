"""Owkin (released with HistoSSLscaling): `{slide}/features.npy` or `{slide}.npy`, (N, 3 + D): level, x, y, then features.

All tiles of a slide lie on one level; x and y count the tiles of that level. A file does not say so itself: its first
three columns tell, which are whole numbers, the first of them constant, and no place occurs twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from milbench.errors import FeatureFileError
from milbench.formats import TILES, SlideFeatures, SlideHeader
from milbench.formats.arrays import floats, head_npy, load_array, load_split
from milbench.formats.shapes import as_bag, fitting, tensor
from milbench.formats.unchanged import of_content, remember, remembered

NAME = "Owkin"
IN_FRONT = 3
FIRST_ROWS = 1000
"""Rows that tell most other arrays apart, so that these are not read whole to see what they are."""
MOST_LEVELS = 32
"""Levels of a pyramid whose smallest has one pixel; a slide of 2^32 pixels per edge does not exist."""
MOST_TILES = 2**26
"""Tiles along an edge below which a place is one number that float64 holds exactly."""


def recognises(paths: Sequence[Path]) -> bool:
    """Whether level, x and y stand in front in all `paths` that can be read, and features with fractions in one.

    One tile is no evidence, and where all columns are whole numbers the first ones are nothing special.
    """
    is_told = False
    for path in paths:
        try:
            stored = floats(path, load_array(path, mapped=True))
        except FeatureFileError:
            continue
        if not _has_places(stored):
            return False
        is_told = is_told or (len(stored) > 1 and not _is_whole(stored[:, IN_FRONT:]))
    return is_told


def _has_places(stored: np.ndarray) -> bool:
    if stored.ndim != 2 or stored.shape[1] <= IN_FRONT:
        return False
    if not len(stored):
        return True
    return all(_are_places(rows) for rows in (stored[:FIRST_ROWS], stored))


def _are_known_places(path: Path, rows: np.ndarray) -> bool:
    """The same of all rows of a file, which are looked at once."""
    key = of_content(path, "places")
    if remembered(key):
        return True
    if are_so := _are_places(rows):
        remember(key, found=True)
    return are_so


def _are_places(rows: np.ndarray) -> bool:
    front = np.asarray(rows[:, :IN_FRONT], dtype=np.float64)
    if not _is_whole(front) or (front < 0).any():
        return False
    one_level = np.ptp(front[:, 0]) == 0 and front[0, 0] < MOST_LEVELS
    return bool(one_level and _differ(front[:, 1:]))


def _differ(places: np.ndarray) -> bool:
    """Whether no place (whole numbers, none below 0) occurs twice. As one number each, they are sorted 50 times as fast."""
    width = places[:, 1].max() + 1
    if places.max() >= MOST_TILES:
        return len(np.unique(places, axis=0)) == len(places)
    numbers = np.sort((places[:, 0] * width + places[:, 1]).astype(np.int64))
    return bool((np.diff(numbers) > 0).all())


def _is_whole(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and np.array_equal(values, np.trunc(values)))


def read(path: Path) -> SlideFeatures:
    """Features [N, D] of one file, and the tiles' places.

    Raises
    ------
    FeatureFileError : unreadable, or without level, x and y in front, as the folder's other files have them.
    """
    front, features = load_split(path, IN_FRONT)
    if front.shape[1:] != (IN_FRONT,) or not features.shape[1] or (len(front) and not _are_known_places(path, front)):
        raise FeatureFileError(
            f"{path} has no level, x and y in its first {IN_FRONT} columns, as the other slides have. Extract it again."
        )
    places = fitting(front[:, 1:].astype(np.float32), len(front), TILES)
    return SlideFeatures(as_bag(path, tensor(features)), places.coords, 1.0, TILES)


def head(path: Path) -> SlideHeader:
    """Sizes of one file, its values left on disk."""
    header = head_npy(path)
    return header._replace(width=header.width - IN_FRONT, unit=TILES, patch_size=1.0)
