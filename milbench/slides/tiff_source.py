"""tifffile's side of a slide: OME-TIFF, and every TIFF that no scanner marked as its own.

Only the tiles or strips that a region touches are read and decoded (by imagecodecs), never a level. OpenSlide 4.0.1 reads
some of these files too, but it overlooks SubIFDs, refuses strips and some codecs, takes a quarter to a tenth of the tiles
per second, and returns other pixels without an error for some damaged deflate tiles.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from struct import unpack
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.errors import UsageError
from milbench.slides.ome import ome_image
from milbench.slides.slide import WHITE, Level, SlideFacts, SourceError
from milbench.slides.tiff_images import codec, is_multiplied, slide_pages

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

CACHE_BYTES = 2**27
"""Of decoded tiles and strips that are kept for the next region: neighbours share them."""

CENTIMETRE, INCH = 3, 2
"""A TIFF's units of resolution."""

SEPARATE = 2
"""A TIFF's word for red, green and blue that lie apart."""


class Segments(NamedTuple):
    """How a level is cut into tiles or strips: `across` in a row, `down` rows, [rows, columns] pixels each."""

    page: TiffPage
    rows: int
    columns: int
    across: int
    down: int
    planes: int  # 3 = red, green and blue lie apart


class TiffSource:
    """A slide as tifffile sees it.

    Raises
    ------
    UsageError : the extra is not installed.
    SourceError : the file is no TIFF, or holds no slide that can be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = _opened(path)
        try:
            self._levels, self.facts = _described(self._file)
        except BaseException:
            self._file.close()
            raise
        self._descriptor = self._file.filehandle.fileno()
        self._kept: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._kept_bytes = 0
        self._lock = Lock()

    def region(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] of `level`, all in pixels of that level."""
        cut = self._levels[level]
        pixels = np.full((height, width, 3), WHITE, np.uint8)
        right, bottom = min(left + width, cut.page.imagewidth), min(top + height, cut.page.imagelength)
        for row, column in _touched(cut, max(left, 0), max(top, 0), right, bottom):
            y, x = row * cut.rows, column * cut.columns
            first_y, last_y = max(y, top, 0), min(y + cut.rows, bottom)
            first_x, last_x = max(x, left, 0), min(x + cut.columns, right)
            target = pixels[first_y - top : last_y - top, first_x - left : last_x - left]
            for plane in range(cut.planes):
                index = (plane * cut.down + row) * cut.across + column
                piece = self._segment(level, index)[first_y - y : last_y - y, first_x - x : last_x - x]
                target[..., slice(None) if cut.planes == 1 else slice(plane, plane + 1)] = piece
        return pixels

    def close(self) -> None:
        """Let go of the file."""
        self._descriptor = -1
        self._kept.clear()
        self._file.close()

    def _segment(self, level: int, index: int) -> NDArray[np.uint8]:
        with self._lock:
            if (level, index) in self._kept:
                self._kept.move_to_end((level, index))
                return self._kept[level, index]
        cut = self._levels[level]
        segment = _decoded(self._descriptor, cut, index)
        with self._lock:
            self._keep((level, index), segment)
        return segment

    def _keep(self, key: tuple[int, int], segment: NDArray[np.uint8]) -> None:
        self._kept_bytes += 0 if key in self._kept else segment.nbytes
        self._kept[key] = segment
        while self._kept_bytes > CACHE_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes


def _opened(path: Path) -> TiffFile:
    try:
        import imagecodecs
        import tifffile
    except ImportError as error:
        raise UsageError(
            f"OME-TIFF is read with tifffile and imagecodecs, of which one is not installed ({error}). "
            "Install them with: pip install 'milbench[wsi]'"
        ) from error
    del imagecodecs
    if not (logger := logging.getLogger("tifffile")).handlers:
        logger.addHandler(logging.NullHandler())  # its remarks on damaged files would stand beside the error
    try:
        return tifffile.TiffFile(path)
    except Exception as error:  # a damaged head makes tifffile fail in any way
        raise SourceError(f"its head is damaged ({error})") from error


def _described(file: TiffFile) -> tuple[list[Segments], SlideFacts]:
    try:
        pages = slide_pages(file)
        _refuse_truncated(file, pages)
        return [_segments(page) for page in pages], _facts(file, pages)
    except SourceError:
        raise
    except Exception as error:  # tifffile again
        raise SourceError(f"its pages are damaged ({error})") from error


def _refuse_truncated(file: TiffFile, pages: list[TiffPage]) -> None:
    """Refuse a file that ends before its pixels do, or before a page that another announces."""
    ends = [int(np.add(page.dataoffsets, page.databytecounts).max(initial=0)) for page in pages]
    announced = [_next_page(file, file.pages[len(file.pages) - 1].aspage()), *(pages[0].subifds or ())]
    size, end = file.filehandle.size, max(*ends, *(offset + 1 for offset in announced))
    if end > size:
        raise SourceError(
            f"the file is incomplete. It has {size:,} bytes, and should have {end:,} or more. Copy it again"
        )


def _next_page(file: TiffFile, page: TiffPage) -> int:
    """Where the page after this one begins; 0 if it is the last. tifffile leaves out what lies after the file's end."""
    tiff = file.tiff
    file.filehandle.seek(page.offset)
    count = unpack(tiff.tagnoformat, file.filehandle.read(tiff.tagnosize))[0]
    file.filehandle.seek(page.offset + tiff.tagnosize + count * tiff.tagsize)
    return int(unpack(tiff.offsetformat, file.filehandle.read(tiff.offsetsize))[0])


def _segments(page: TiffPage) -> Segments:
    width, height = int(page.imagewidth), int(page.imagelength)
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    planes = 3 if page.planarconfig == SEPARATE else 1
    cut = Segments(page, int(rows), int(columns), -(-width // columns), -(-height // rows), planes)
    if min(width, height, cut.rows, cut.columns) < 1 or len(page.dataoffsets) < cut.across * cut.down * planes:
        raise SourceError(f"{width} × {height} pixels do not fit into its {len(page.dataoffsets)} tiles. Copy it again")
    return cut


def _touched(cut: Segments, left: int, top: int, right: int, bottom: int) -> Iterator[tuple[int, int]]:
    """Row and column of every tile or strip with a pixel between these ends."""
    if left >= right or top >= bottom:
        return
    down = range(top // cut.rows, (bottom - 1) // cut.rows + 1)
    yield from product(down, range(left // cut.columns, (right - 1) // cut.columns + 1))


def _decoded(descriptor: int, cut: Segments, index: int) -> NDArray[np.uint8]:
    """Pixels [rows, columns, channels] of one tile or strip; white where it was left out of the file."""
    page = cut.page
    try:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not count:
            return np.full((cut.rows, cut.columns, 1 if cut.planes > 1 else 3), WHITE, np.uint8)
        stored = os.pread(descriptor, count, offset)  # no position of the file that a forked process would share
        pixels = np.asarray(page.decode(stored, index, jpegtables=page.jpegtables)[0][0], np.uint8)
    except Exception as error:  # every codec has errors of its own
        raise SourceError(f"tile {index}, {codec(page)}: {error}") from error
    return _without_alpha(pixels, page) if pixels.shape[2] == 4 else pixels


def _without_alpha(pixels: NDArray[np.uint8], page: TiffPage) -> NDArray[np.uint8]:
    """Pixels on white; colours may be multiplied by their alpha already."""
    alpha = pixels[..., 3:].astype(np.uint16)
    colours = pixels[..., :3].astype(np.uint16) * (255 if is_multiplied(page) else alpha)
    return np.asarray((colours + 127) // 255 + (WHITE - alpha), np.uint16).clip(0, WHITE).astype(np.uint8)


def _facts(file: TiffFile, pages: list[TiffPage]) -> SlideFacts:
    width, height = int(pages[0].imagewidth), int(pages[0].imagelength)
    told = ome_image(file.ome_metadata or "", width, height)
    return SlideFacts(
        container="OME-TIFF" if file.is_ome else "generic-tiff",
        levels=tuple(_level(page, width, height) for page in pages),
        microns_per_pixel=told.microns_per_pixel or _microns(pages[0]),
        magnification=told.magnification,
        bounds=(0, 0, width, height),
    )


def _level(page: TiffPage, width: int, height: int) -> Level:
    """The level of a page; its downsample is the mean of both axes, as OpenSlide counts."""
    own = int(page.imagewidth), int(page.imagelength)
    return Level(*own, (width / own[0] + height / own[1]) / 2)


def _microns(page: TiffPage) -> tuple[float, float] | None:
    """Microns per pixel from the page's resolution, if that has a unit."""
    unit = {CENTIMETRE: 1e4, INCH: 25400.0}.get(int(page.resolutionunit))
    x, y = page.resolution
    return (unit / x, unit / y) if unit and x and y else None
