"""Slide: an open whole-slide image, read in regions.

A `Source` reads one container (`openslide_source.py`, `tiff_source.py`). `Slide` is what all of milbench sees: the same
coordinates, the same white, and errors that name the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import floor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from milbench.errors import DataError
from milbench.slides.picture import picture_of

Pixels = NDArray[np.uint8]

WHITE = 255
"""What a region holds where nothing was scanned."""

LEAST_MICRONS, MOST_MICRONS = 0.02, 20.0
"""Microns per pixel that a slide can have. A TIFF that was saved at "72 dpi" claims 353."""


class Level(NamedTuple):
    """One size in which the slide is stored.

    Attributes
    ----------
    width, height : in pixels of this level.
    downsample : edge of a pixel, in level-0 pixels.
    """

    width: int
    height: int
    downsample: float


class SlideFacts(NamedTuple):
    """What a container tells of its slide; `Slide` says what each means."""

    container: str
    levels: tuple[Level, ...]
    microns_per_pixel: tuple[float, float] | None
    magnification: float | None
    bounds: tuple[int, int, int, int]


class Source(Protocol):
    """One way to read a container."""

    facts: SlideFacts

    def region(self, level: int, left: int, top: int, width: int, height: int) -> Pixels:
        """Pixels [height, width, 3] of `level`, all arguments in pixels of that level; white outside of the slide."""

    def close(self) -> None:
        """Let go of the file."""


class SourceError(Exception):
    """A region cannot be read; the message says why, without the file's name."""


class Slide:
    """An open slide; `open_slide` returns it.

    Attributes
    ----------
    path : the file that was opened.
    container : what the file is, in OpenSlide's words ("aperio", "generic-tiff"), or "DICOM" or "OME-TIFF".
    levels : level 0, the largest, first.
    microns_per_pixel : (x, y) of level 0; None where the file does not tell or tells what cannot be.
    magnification : of the objective; None where the file does not tell.
    bounds : left, top, width, height of the part that was scanned, in level-0 pixels.

    >>> with open_slide(Path("S1.svs")) as slide: slide.read(0, 2048, 1024, 256, 256)
    """

    def __init__(self, path: Path, source: Source) -> None:
        self.path = path
        self.container, self.levels, microns, self.magnification, self.bounds = source.facts
        self.microns_per_pixel = microns if microns and all(map(_can_be, microns)) else None
        self._source = source
        self._error = ""

    def read(self, level: int, left: int, top: int, width: int, height: int) -> Pixels:
        """Pixels uint8 [height, width, 3] of `level`; white outside of the slide and where nothing was scanned.

        Parameters
        ----------
        left, top : of the region, in level-0 pixels. The nearest pixel of the level is the region's first.
        width, height : of the region, in pixels of the level.

        Raises
        ------
        DataError : the file is damaged there, or was before: after an error nothing more is read from a slide.
        IndexError : there is no such level.
        """
        if level < 0:  # OpenSlide would answer with transparent pixels
            raise IndexError(f"{self.path} has no level {level}, but 0 to {len(self.levels) - 1}")
        downsample = self.levels[level].downsample
        with self._named_errors(f"{width} × {height} pixels of level {level} at ({left}, {top})"):
            return self._source.region(level, _nearest(left / downsample), _nearest(top / downsample), width, height)

    def picture(self, most_pixels: int) -> Pixels:
        """The whole slide, uint8 [rows, columns, 3], each pixel the mean of its area; `most_pixels` on the longer edge.

        Raises as `read`.
        """
        with self._named_errors("the whole slide"):
            return picture_of(self.levels, self._source.region, most_pixels)

    def close(self) -> None:
        """Let go of the file."""
        self._error = self._error or f"{self.path} was closed."
        self._source.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({self.path.name!r}, {self.container}, {self.levels[0].width} × {self.levels[0].height})"

    @contextmanager
    def _named_errors(self, what: str) -> Iterator[None]:
        if self._error:
            raise DataError(f"{self._error} Nothing more is read from it since.")
        try:
            yield
        except SourceError as error:
            gone = "" if self.path.exists() else " The file is not there any more."
            self._error = (
                f"{self.path} cannot be read: {what} gave an error ({error}).{gone} The file is damaged or incomplete. "
                "Copy it again from its source and compare the sizes."
            )
            raise DataError(self._error) from error


def _nearest(position: float) -> int:
    return floor(position + 0.5)


def _can_be(microns: float) -> bool:
    return LEAST_MICRONS <= microns <= MOST_MICRONS
