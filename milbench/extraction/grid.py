"""Grid: where the patches of a slide lie.

Corners lie on whole pixels of the level that patches are read from, so that each container gives the same pixels: between
two of them OpenSlide would interpolate. If a step is a fraction of a pixel, each corner is rounded on its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.errors import DataError
from milbench.extraction.resolution import Reading
from milbench.extraction.settings import Settings
from milbench.extraction.tissue import Piece, Tissue

Corners = NDArray[np.int64]

MOST_PATCHES = 4_000_000
"""On a slide, to refuse a step of one pixel before memory is gone."""


class Lattice(NamedTuple):
    """A grid in pixels of the level.

    Attributes
    ----------
    left, top : corner of its first patch.
    columns, rows : number of patches.
    """

    left: int
    top: int
    columns: int
    rows: int


def corners_of(tissue: Tissue, reading: Reading, bounds: tuple[int, int, int, int], settings: Settings) -> Corners:
    """Upper left corners of the patches in tissue, int64 [N, 2], x and y in level-0 pixels.

    One grid over the slide gives them row by row. A grid per piece gives one piece after the other, each row by row; patches
    of two pieces may overlap there.

    Parameters
    ----------
    bounds : left, top, width, height of the scanned part, in level-0 pixels.
    """
    find = _on_one_grid if settings.grid == "slide" else _on_grids_of_pieces
    places = np.concatenate([np.empty((0, 2), np.int64), *find(tissue, reading, bounds, settings.tissue.rule)])
    return np.rint(places * reading.downsample).astype(np.int64)


def _on_one_grid(tissue: Tissue, reading: Reading, bounds: tuple[int, int, int, int], rule: str) -> Iterator[Corners]:
    whole = _lattice(*bounds, reading)
    chosen = np.zeros((whole.rows, whole.columns), bool)
    for piece in tissue.pieces:
        rows, columns = _reached(piece, tissue.scale, whole, reading)
        places = _places(whole, rows, columns, reading)
        chosen[rows.start : rows.stop, columns.start : columns.stop] |= _in_piece(places, piece, tissue, reading, rule)
    yield _places(whole, range(whole.rows), range(whole.columns), reading)[chosen]


def _on_grids_of_pieces(
    tissue: Tissue, reading: Reading, bounds: tuple[int, int, int, int], rule: str
) -> Iterator[Corners]:
    for piece in tissue.pieces:
        rows, columns = piece.outline.shape
        (x, y) = tissue.scale
        own = _lattice(piece.left * x, piece.top * y, columns * x, rows * y, reading)
        places = _places(own, range(own.rows), range(own.columns), reading)
        yield places[_in_piece(places, piece, tissue, reading, rule)]


def _lattice(left: float, top: float, width: float, height: float, reading: Reading) -> Lattice:
    """A grid whose patches begin inside a box of level-0 pixels.

    Raises
    ------
    DataError : it would have millions of patches.
    """
    step = reading.step * reading.downsample
    columns, rows = (max(ceil(round(edge / step, 6)), 1) for edge in (width, height))
    if columns * rows > MOST_PATCHES:
        raise DataError(
            f"a grid of {columns:,} × {rows:,} patches would lie on it; at most {MOST_PATCHES:,} are laid out. Take a larger "
            "--step or a lower resolution."
        )
    return Lattice(floor(left / reading.downsample), floor(top / reading.downsample), columns, rows)


def _reached(piece: Piece, scale: tuple[float, float], whole: Lattice, reading: Reading) -> tuple[range, range]:
    """Rows and columns of the grid whose patches may touch the piece."""
    spans = []
    for begin, size, per_pixel, first, count in (
        (piece.top, piece.outline.shape[0], scale[1], whole.top, whole.rows),
        (piece.left, piece.outline.shape[1], scale[0], whole.left, whole.columns),
    ):
        begins, ends = (edge * per_pixel / reading.downsample - first for edge in (begin, begin + size))
        low = floor((begins - reading.edge) / reading.step)
        spans.append(range(min(max(low, 0), count), max(min(ceil(ends / reading.step) + 1, count), 0)))
    return spans[0], spans[1]


def _places(lattice: Lattice, rows: range, columns: range, reading: Reading) -> Corners:
    """Corners [rows, columns, 2], x and y in pixels of the level."""
    x = lattice.left + np.floor(np.asarray(columns) * reading.step + 0.5).astype(np.int64)
    y = lattice.top + np.floor(np.asarray(rows) * reading.step + 0.5).astype(np.int64)
    return np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)


def _in_piece(places: Corners, piece: Piece, tissue: Tissue, reading: Reading, rule: str) -> NDArray[np.bool_]:
    """Whether each patch counts as one of the piece, [rows, columns]."""
    centre = (places + reading.edge / 2) * reading.downsample
    quarter = reading.patch_size_level0 / 4
    shifts = [(0.0, 0.0)] if rule == "centre" else [(x * quarter, y * quarter) for x in (-1, 1) for y in (-1, 1)]
    touches = np.any([_at(piece.outline, centre + shift, piece, tissue.scale) for shift in shifts], axis=0)
    return np.asarray(touches & ~_at(piece.holes, centre, piece, tissue.scale))


def _at(mask: NDArray[np.bool_], points: NDArray[Any], piece: Piece, scale: tuple[float, float]) -> NDArray[np.bool_]:
    """The piece's mask at points [..., 2] in level-0 pixels; False outside of its box."""
    x, y = (np.floor(points[..., axis] / scale[axis]).astype(np.int64) for axis in (0, 1))
    x, y = x - piece.left, y - piece.top
    inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    found = np.zeros(inside.shape, bool)
    found[inside] = mask[y[inside], x[inside]]
    return found
