"""Picture: a whole slide made small, without a level in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from milbench.slides.slide import Level

STRIP_PIXELS = 2**24
"""Pixels that are read at once: a slide without small levels is read in strips, not whole."""

Region = Callable[[int, int, int, int, int], NDArray[np.uint8]]


def picture_of(levels: Sequence[Level], region: Region, most_pixels: int) -> NDArray[np.uint8]:
    """uint8 [rows, columns, 3]: the slide with `most_pixels` on its longer edge, or as it is if it is smaller."""
    width, height = levels[0].width, levels[0].height
    shrink = max(max(width, height) / most_pixels, 1.0)
    columns, rows = max(round(width / shrink), 1), max(round(height / shrink), 1)
    return np.concatenate(list(_strips(levels, region, columns, rows)))


def _strips(levels: Sequence[Level], region: Region, columns: int, rows: int) -> Iterator[NDArray[np.uint8]]:
    """Rows of the picture, some at a time, averaged from the smallest level that has enough pixels."""
    from PIL import Image

    level = _smallest(levels, columns, rows)
    width, height = levels[level].width, levels[level].height
    per_row = height / rows
    count = max(int(STRIP_PIXELS / width / per_row), 1)
    for first in range(0, rows, count):
        last = min(first + count, rows)
        top, bottom = int(first * per_row), min(ceil(last * per_row), height)
        strip = Image.fromarray(region(level, 0, top, width, bottom - top))
        box = (0, first * per_row - top, width, last * per_row - top)
        yield np.asarray(strip.resize((columns, last - first), Image.Resampling.BOX, box))


def _smallest(levels: Sequence[Level], columns: int, rows: int) -> int:
    """The last level that has a pixel for every pixel of the picture."""
    return max((n for n, each in enumerate(levels) if each.width >= columns and each.height >= rows), default=0)
