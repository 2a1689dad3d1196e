"""Tiles: pixels of patches, at the resolution that is asked."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from milbench.extraction.grid import Corners
from milbench.extraction.resolution import Reading

if TYPE_CHECKING:
    from milbench.slides import Slide

Tiles = NDArray[np.uint8]


def read_tiles(slide: Slide, corners: Corners, reading: Reading, tiles: Tiles) -> None:
    """Fill `tiles`, uint8 [B, P, P, 3], with the patches at `corners`; white outside of the slide.

    Raises
    ------
    DataError : the slide is damaged there.
    """
    patch_size, edge = tiles.shape[1], ceil(round(reading.edge, 6))
    for tile, (left, top) in zip(tiles, corners.tolist(), strict=True):
        region = slide.read(reading.level, left, top, edge, edge)
        tile[...] = region if edge == patch_size else smaller(region, reading.edge, patch_size)


def smaller(region: Tiles, edge: float, patch_size: int) -> Tiles:
    """The region's first `edge` × `edge` pixels as uint8 [P, P, 3].

    Each pixel is the mean of its area if areas are whole pixels. Else Pillow's bicubic filter, which looks at all pixels of
    an area, weighs those that are shared: means of whole pixels would be of unequal areas.
    """
    from PIL import Image

    whole = abs(edge / patch_size - round(edge / patch_size)) < 1e-6
    how = Image.Resampling.BOX if whole else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(region).resize((patch_size, patch_size), how, (0, 0, edge, edge)))
