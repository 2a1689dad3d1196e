"""Canvas: values of patches painted into an array of pixels, whatever lattice they lie on.

Every patch adds its value to the rectangle of pixels that it covers. Written as differences at the rectangles'
four corners and summed up once, the cost is that of patches plus pixels: 100,000 patches take milliseconds where one
polygon each takes seconds. Where patches overlap a pixel holds their mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from milbench.heatmap.places import Places

MOST_PIXELS = 1600
"""Longest edge of a canvas that is made for patches alone."""

Extent = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Canvas:
    """Pixels over a piece of the slide.

    Attributes
    ----------
    pixels : float64 [rows, columns], NaN where no patch lies.
    extent : left, right, bottom, top end in the unit of the places, as matplotlib's `imshow` takes it.
    """

    pixels: NDArray[np.float64]
    extent: Extent


@dataclass(frozen=True)
class Grid:
    """Where a canvas lies and how fine it is.

    Attributes
    ----------
    left, top : corner of the first pixel, in the unit of the places.
    step_x, step_y : edge of a pixel in that unit.
    columns, rows : number of pixels.
    """

    left: float
    top: float
    step_x: float
    step_y: float
    columns: int
    rows: int

    @property
    def extent(self) -> Extent:
        """Left, right, bottom, top end."""
        return (self.left, self.left + self.columns * self.step_x, self.top + self.rows * self.step_y, self.top)


def grid_around(places: Places, most_pixels: int = MOST_PIXELS) -> Grid:
    """Grid around all patches; a patch is a whole number of pixels wide where it is at least one."""
    left, top, right, bottom = places.bounds
    finest = max(right - left, bottom - top) / most_pixels
    step = places.patch_size / int(places.patch_size / finest) if places.patch_size >= finest else finest
    # a quotient that is whole except for rounding must not get one more pixel
    columns, rows = (max(ceil(round(edge / step, 6)), 1) for edge in (right - left, bottom - top))
    return Grid(left, top, step, step, columns, rows)


def grid_over(width: int, height: int, columns: int, rows: int) -> Grid:
    """Grid of a picture of `columns` × `rows` pixels over a whole slide of `width` × `height` level-0 pixels."""
    return Grid(0.0, 0.0, width / columns, height / rows, columns, rows)


def paint(places: Places, values: NDArray[np.float64], grid: Grid, smooth: float = 0.0) -> Canvas:
    """Values [N] on the grid's pixels; a pixel belongs to the patches that hold its centre, or lie inside it.

    Parameters
    ----------
    smooth : standard deviation of a Gaussian, in patches; 0 = none. It spreads over tissue only.
    """
    rectangles = _covered(places, grid)
    total, count = _summed(rectangles, values, grid), _summed(rectangles, np.ones(len(values)), grid)
    covered = count > 0.5  # counts are sums of ones, so they are whole
    if smooth:
        sigma = (smooth * places.patch_size / grid.step_y, smooth * places.patch_size / grid.step_x)
        total = np.where(covered, total / np.maximum(count, 1), 0.0)
        total, count = gaussian_filter(total, sigma), gaussian_filter(covered.astype(float), sigma)
    pixels = np.divide(total, count, out=np.full(total.shape, np.nan), where=covered)
    return Canvas(pixels, grid.extent)


def _covered(places: Places, grid: Grid) -> NDArray[np.int64]:
    """First and last-but-one column and row of every patch, [4, N]: left, right, top, bottom."""
    x, y = (places.corners - (grid.left, grid.top)).T
    columns = _span(x, places.patch_size, grid.step_x, grid.columns)
    rows = _span(y, places.patch_size, grid.step_y, grid.rows)
    return np.stack([*columns, *rows])


def _span(begin: NDArray[np.float64], size: float, step: float, count: int) -> tuple[NDArray[np.int64], ...]:
    """First pixel of every patch and the first one after it; a patch that holds no centre gets the pixel it lies in."""
    first, last = (_first_centre(edge, step, count) for edge in (begin, begin + size))
    within = np.clip(np.floor((begin + size / 2) / step), 0, count - 1).astype(np.int64)
    narrow = last <= first
    return np.where(narrow, within, first), np.where(narrow, within + 1, last)


def _first_centre(edge: NDArray[np.float64], step: float, count: int) -> NDArray[np.int64]:
    """Index of the first pixel whose centre lies on or after `edge`."""
    exact = np.round(edge / step - 0.5, 6)  # an edge on a centre must not fall to either side by rounding
    return np.clip(np.ceil(exact), 0, count).astype(np.int64)


def _summed(rectangles: NDArray[np.int64], values: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Sum of the values of the rectangles that cover each pixel, [rows, columns]."""
    left, right, top, bottom = rectangles
    width, height = grid.columns + 1, grid.rows + 1
    corners = np.concatenate([top * width + left, bottom * width + right, top * width + right, bottom * width + left])
    signs = np.concatenate([values, values, -values, -values])
    differences = np.bincount(corners, weights=signs, minlength=width * height).reshape(height, width)
    return np.asarray(differences.cumsum(axis=0).cumsum(axis=1)[:-1, :-1])
