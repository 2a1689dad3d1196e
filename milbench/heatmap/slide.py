"""Slide: a whole-slide image as a small picture whose pixels map exactly to level-0 coordinates.

Needs the extra `wsi` (openslide-python and openslide-bin): SVS, NDPI, MRXS, TIFF, DICOM and what else OpenSlide reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from milbench.errors import DataError, UsageError
from milbench.heatmap.places import PIXELS, Places

if TYPE_CHECKING:
    from openslide import OpenSlide

SUFFIXES = (".svs", ".ndpi", ".mrxs", ".tif", ".tiff", ".dcm", ".scn", ".bif", ".vms", ".vmu", ".svslide")
MOST_PIXELS = 1600
"""Longest edge of a slide's picture."""

STRIP_PIXELS = 2**24
"""Pixels that are read at once: a file without small levels is read in strips, not whole."""


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
    """The slide file: `path` itself, or in a folder the file (or DICOM folder) that is called after the slide.

    Raises
    ------
    UsageError : there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f"--wsi {path} does not exist. Name a slide file, or a folder with one file per slide.")
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in SUFFIXES and slide_id in (file.stem, file.parent.name):
            return file
    raise UsageError(
        f"--wsi {path} holds no slide called '{slide_id}'. Expected {slide_id} and one of {', '.join(SUFFIXES)}."
    )


def read_slide(path: Path, places: Places, most_pixels: int = MOST_PIXELS) -> SlidePicture:
    """The slide in `path` as a picture, if the patches lie on it.

    Raises
    ------
    UsageError : the extra is not installed.
    DataError : no slide that OpenSlide reads, or another slide than the coordinates were taken from.
    """
    openslide = _openslide()
    try:
        with openslide.OpenSlide(str(path)) as slide:
            _refuse_other_size(path, slide.dimensions, places)
            return _picture(slide, most_pixels)
    except openslide.OpenSlideError as error:
        raise DataError(
            f"{path} cannot be read as a slide: {error or 'unsupported or damaged file'}. Name another file, or draw without --wsi."
        ) from error


def _openslide() -> Any:
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the Python package without its library
        raise UsageError(
            f"--wsi needs openslide, which is not installed ({error}). Install it with: pip install 'milbench[wsi]'. "
            "Without --wsi the map is drawn from coordinates alone."
        ) from error
    return openslide


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


def _picture(slide: OpenSlide, most_pixels: int) -> SlidePicture:
    width, height = slide.dimensions
    shrink = max(max(width, height) / most_pixels, 1.0)
    columns, rows = max(round(width / shrink), 1), max(round(height / shrink), 1)
    pixels = np.concatenate(list(_strips(slide, columns, rows)))
    microns = slide.properties.get("openslide.mpp-x")
    left, top = (int(slide.properties.get(f"openslide.bounds-{axis}") or 0) for axis in "xy")
    return SlidePicture(pixels, width, height, float(microns) if microns else None, (left, top))


def _strips(slide: OpenSlide, columns: int, rows: int) -> Iterator[NDArray[np.uint8]]:
    """Rows of the picture, some at a time, averaged from the smallest level that has enough pixels."""
    from PIL import Image

    level = slide.get_best_level_for_downsample(slide.dimensions[0] / columns)
    level_width, level_height = slide.level_dimensions[level]
    per_row = level_height / rows
    count = max(int(STRIP_PIXELS / level_width / per_row), 1)
    for first in range(0, rows, count):
        last = min(first + count, rows)
        top, bottom = int(first * per_row), min(ceil(last * per_row), level_height)
        begin = (0, round(top * slide.level_downsamples[level]))  # OpenSlide asks for level-0 pixels
        region = slide.read_region(begin, level, (level_width, bottom - top))
        white = Image.new("RGBA", region.size, (255, 255, 255, 255))
        strip = Image.alpha_composite(white, region).convert("RGB")
        box = (0, first * per_row - top, level_width, last * per_row - top)
        yield np.asarray(strip.resize((columns, last - first), Image.Resampling.BOX, box))
