"""Tissue: pieces of tissue on a small picture of a slide, their holes left out.

The method is CLAM's (Lu et al. 2021, `segmentTissue`): saturation, median filter, threshold, closing, outlines of pieces
with their holes, small ones left out. Differs: the picture has a set resolution, since filters of a few pixels mean another
thing on each scanner's levels; areas are counted in pixels and in squares of 128 µm, not inside outlines and in level-0 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.errors import UsageError
from milbench.extraction.settings import TissueSettings

if TYPE_CHECKING:
    from milbench.slides import Slide

Mask = NDArray[np.bool_]

REFERENCE_MICRONS = 128.0
"""Edge of the square that areas are counted in: a patch of 256 pixels at 20x, CLAM's 512 at 40x."""

MOST_PICTURE_PIXELS = 16384
"""Longest edge of the picture, for slides whose stated resolution is absurd."""

EIGHT, FOUR = np.ones((3, 3), bool), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
"""Neighbours of a pixel of tissue, and of one of background: two pieces that touch at a corner are one, two holes are two."""


class Piece(NamedTuple):
    """One piece of tissue.

    Attributes
    ----------
    left, top : of its bounding box, in pixels of the picture.
    outline : the box [rows, columns]: the piece and all that it encloses.
    holes : the box: holes that are left out.
    """

    left: int
    top: int
    outline: Mask
    holes: Mask


class Tissue(NamedTuple):
    """All pieces of a slide.

    Attributes
    ----------
    pieces : in reading order of their first pixels.
    picture : uint8 [rows, columns, 3], what they were found on.
    scale : level-0 pixels per pixel of the picture, (x, y).
    """

    pieces: tuple[Piece, ...]
    picture: NDArray[np.uint8]
    scale: tuple[float, float]

    def mask(self) -> Mask:
        """Pixels of the picture that are tissue, [rows, columns]."""
        found = np.zeros(self.picture.shape[:2], bool)
        for piece in self.pieces:
            rows, columns = piece.outline.shape
            found[piece.top : piece.top + rows, piece.left : piece.left + columns] |= piece.outline & ~piece.holes
        return found


def find_tissue(slide: Slide, microns_per_pixel: float, settings: TissueSettings) -> Tissue:
    """Tissue of an open slide.

    Parameters
    ----------
    microns_per_pixel : of level 0.

    Raises
    ------
    DataError : the slide cannot be read.
    UsageError : scikit-image is not installed.
    """
    width, height = slide.levels[0].width, slide.levels[0].height
    wanted = ceil(max(width, height) * microns_per_pixel / settings.microns_per_pixel)
    picture = slide.picture(max(min(wanted, MOST_PICTURE_PIXELS), 1))
    scale = (width / picture.shape[1], height / picture.shape[0])
    microns_per_area = (scale[0] * microns_per_pixel) * (scale[1] * microns_per_pixel)
    return Tissue(tuple(pieces_on(picture, REFERENCE_MICRONS**2 / microns_per_area, settings)), picture, scale)


def pieces_on(picture: NDArray[np.uint8], square: float, settings: TissueSettings) -> Iterator[Piece]:
    """Pieces of tissue on a picture.

    Parameters
    ----------
    picture : uint8 [rows, columns, 3].
    square : pixels of the picture in a square of 128 µm.
    """
    from scipy import ndimage

    labels, _ = ndimage.label(coloured(picture, settings), EIGHT)
    areas = np.bincount(labels.ravel())
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if areas[label] > settings.smallest_piece * square:
            piece = labels[box] == label
            outline = ndimage.binary_fill_holes(piece)
            holes = _large_holes(outline & ~piece, settings.smallest_hole * square, settings.most_holes)
            yield Piece(box[1].start, box[0].start, outline, holes)


def largest_piece(tissue: Tissue, microns_per_pixel: float, settings: TissueSettings) -> float:
    """Area of a slide's largest piece of tissue in squares of 128 µm, also if it was left out; 0 if there is none.

    Parameters
    ----------
    microns_per_pixel : of level 0.
    """
    from scipy import ndimage

    labels, _ = ndimage.label(coloured(tissue.picture, settings), EIGHT)
    most = int(np.bincount(labels.ravel())[1:].max(initial=0))
    return most * tissue.scale[0] * tissue.scale[1] * microns_per_pixel**2 / REFERENCE_MICRONS**2


def coloured(picture: NDArray[np.uint8], settings: TissueSettings) -> Mask:
    """Pixels that are saturated enough to be tissue, gaps closed; [rows, columns]."""
    smooth = smoothed(picture, settings)
    return _closed(smooth > _threshold(smooth, settings), settings.closing)


def smoothed(picture: NDArray[np.uint8], settings: TissueSettings) -> NDArray[np.uint8]:
    """Saturation, 0 to 255, of each pixel's surroundings, [rows, columns]."""
    return _median(saturation(picture), settings.median)


def saturation(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Saturation of the colour model HSV, 0 to 255, [rows, columns]; 0 for black."""
    most, least = picture.max(axis=2), picture.min(axis=2)
    share = np.divide(most - least, most, out=np.zeros(most.shape, np.float32), where=most > 0, dtype=np.float32)
    return np.asarray(np.rint(share * 255), np.uint8)


def _median(values: NDArray[np.uint8], edge: int) -> NDArray[np.uint8]:
    """Median of the square around each pixel; the picture's border is continued outwards."""
    rank = _skimage("filters.rank")
    around = edge // 2
    filtered = rank.median(np.pad(values, around, mode="edge"), np.ones((edge, edge), bool))
    return np.asarray(filtered[around : around + values.shape[0], around : around + values.shape[1]])


def _threshold(smooth: NDArray[np.uint8], settings: TissueSettings) -> float:
    """Above it lies tissue. A picture of one colour has no two classes, and Otsu's method no answer."""
    if not settings.otsu or smooth.min() == smooth.max():
        return settings.saturation
    return float(_skimage("filters").threshold_otsu(smooth))


def _closed(mask: Mask, edge: int) -> Mask:
    """The mask after closing by a square; beyond the picture there is nothing that would eat tissue at its border."""
    from scipy import ndimage

    if edge < 2:
        return mask
    padded = np.pad(mask, edge)
    closed = ndimage.binary_closing(padded, np.ones((edge, edge), bool))
    return np.asarray(closed[edge:-edge, edge:-edge])


def _large_holes(enclosed: Mask, smallest: float, most: int) -> Mask:
    """The largest holes among what a piece encloses, islands in them included."""
    from scipy import ndimage

    labels, _ = ndimage.label(enclosed, FOUR)
    areas = np.bincount(labels.ravel())
    areas[0] = 0  # the piece itself
    largest = np.argsort(-areas, kind="stable")[:most]
    return np.isin(labels, largest[areas[largest] > max(smallest, 0)])


def _skimage(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"skimage.{name}")
    except ImportError as error:
        raise UsageError(
            f"finding tissue needs scikit-image, which is not installed ({error}). "
            "Install it with: pip install 'milbench[features]'."
        ) from error
