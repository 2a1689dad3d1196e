"""Slide: a whole-slide image as a small picture whose pixels map exactly to level-0 coordinates.

Needs the extra `wsi`: `milbench.slides` opens what comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milbench.errors import DataError, UsageError
from milbench.heatmap.places import PIXELS, Places
from milbench.slides import SUFFIXES, Slide, open_slide, slides_below

MOST_PIXELS = 1600
"""Longest edge of a slide's picture."""


@dataclass(frozen=True, eq=False)
class SlidePicture:
    """A slide made small.

    Attributes
    ----------
    pixels : uint8 [rows, columns, 3].
    width, height : of the slide, in level-0 pixels.
    microns_per_pixel : of level 0, or None where the file does not tell.
    bounds : left and top end of the part that was scanned, in level-0 pixels: where viewers that crop begin to count.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    microns_per_pixel: float | None = None
    bounds: tuple[int, int] = (0, 0)


def find_slide(path: Path, slide_id: str) -> Path:
    """The slide file: `path` itself, or in a folder the file, DICOM series or folder that is called after the slide.

    Raises
    ------
    UsageError : there is none, or there are two.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f"--wsi {path} does not exist. Name a slide file, or a folder with one file per slide.")
    found = list(slides_below(path))
    named = [each.path for each in found if each.slide_id == slide_id]
    named = named or [each.path for each in found if each.path.parent.name == slide_id]
    if not named:
        raise UsageError(
            f"--wsi {path} holds no slide called '{slide_id}'. Expected {slide_id} and one of {', '.join(SUFFIXES)}."
        )
    if len(named) > 1:
        raise UsageError(f"--wsi {path} holds slide '{slide_id}' twice: {named[0]} and {named[1]}. Name one of them.")
    return named[0]


def read_slide(path: Path, places: Places, most_pixels: int = MOST_PIXELS) -> SlidePicture:
    """The slide in `path` as a picture, if the patches lie on it.

    Raises
    ------
    UsageError : the extra is not installed.
    DataError : no slide that can be read, or another slide than the coordinates were taken from.
    """
    with _opened(path) as slide:
        width, height = slide.levels[0][:2]
        _refuse_other_size(path, (width, height), places)
        microns = slide.microns_per_pixel[0] if slide.microns_per_pixel else None
        return SlidePicture(slide.picture(most_pixels), width, height, microns, slide.bounds[:2])


def _opened(path: Path) -> Slide:
    try:
        return open_slide(path)
    except (DataError, UsageError) as error:
        raise type(error)(f"{error} Without --wsi the map is drawn from coordinates alone.") from error


def _refuse_other_size(path: Path, size: tuple[int, int], places: Places) -> None:
    if places.unit != PIXELS:
        raise DataError(
            f"coordinates are in '{places.unit}', which cannot be laid over {path}: the features do not tell how "
            "many level-0 pixels that is. Draw without --wsi, or extract with level-0 coordinates."
        )
    first, last = places.corners.min(axis=0), places.corners.max(axis=0)
    # the last patch may stick out of the slide, as extractors pad it, but it must begin on it
    if (first <= -places.patch_size).any() or (last >= size).any():
        raise DataError(
            f"{path} is {size[0]} × {size[1]} level-0 pixels, but patches begin from ({first[0]:g}, {first[1]:g}) to "
            f"({last[0]:g}, {last[1]:g}). It is another slide, or a resized copy. Name the file that the features "
            "were extracted from."
        )
