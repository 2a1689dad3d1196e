"""TIFF images: which pages of a TIFF are levels of the slide, and whether they hold what a slide holds.

OpenSlide 4.0.1 sees only the first page of an OME-TIFF, be it a label, and reads 16-bit and five-channel pages as if they
were colours. So milbench looks at the pages itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from milbench.slides.slide import SourceError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

SECOND_SLIDE_PIXELS = 2**24
"""An image of so many pixels is no label or macro picture: the file holds two slides."""

MOST_SEGMENT_BYTES = 2**28
"""Of one tile or strip, decoded. A level in one strip would have to be in memory whole."""

ORIENTATION = 274
"""Number of the tag that says where the first row and column lie; 1 = top left."""

JPEG = {6, 7, 33007, 34892}
"""Numbers of the codecs that turn YCbCr into RGB while they decode."""

APERIO_YCBCR = 33003
"""Number of a codec whose colours are YCbCr, also if the page says RGB: one of Aperio's two kinds of JPEG 2000. OpenSlide
converts it in a file whose description is Aperio's. Any other file is read by tifffile, which does not convert it."""


def slide_pages(file: TiffFile) -> list[TiffPage]:
    """Pages of the slide, level 0 first: the largest image of the file with its smaller copies.

    Raises
    ------
    SourceError : the image is no 8-bit RGB, there are two, or its tiles cannot be decoded.
    """
    images = _images(file)
    if not images:
        raise SourceError("the TIFF holds no image. If its copy is incomplete, copy it again")
    image = max(images, key=lambda pages: _area(pages[0]))
    _refuse_second_slide(image[0], [pages[0] for pages in images if pages is not image])
    if problem := _problem(image[0]):
        raise SourceError(problem)
    return [image[0], *_smaller_levels(image)]


def _images(file: TiffFile) -> list[list[TiffPage]]:
    """Pages image by image: the full size, then those said to be reduced, be they SubIFDs or pages that follow."""
    images: list[list[TiffPage]] = []
    for page in _pages(file.pages):
        if page.is_reduced and images:
            images[-1].append(page)
        elif not page.is_mask:
            images.append([page, *_pages(page.pages or ())])
    return images


def _pages(pages: Any) -> Iterator[TiffPage]:
    yield from (page.aspage() for page in pages)


def _area(page: TiffPage) -> int:
    return int(page.imagewidth) * int(page.imagelength)


def _refuse_second_slide(slide: TiffPage, others: Sequence[TiffPage]) -> None:
    size = (slide.imagewidth, slide.imagelength)
    same = 1 + sum((page.imagewidth, page.imagelength) == size for page in others)
    if same > 1 and slide.samplesperpixel == 1:
        raise SourceError(
            f"it has {same} channels or planes of {size[0]} × {size[1]} pixels (fluorescence?), not red, green and blue. {AS_RGB}"
        )
    if same > 1:
        raise SourceError(
            f"it has {same} planes of {size[0]} × {size[1]} pixels (focus or time). Write one of them to a file of its own"
        )
    for page in others:
        if _area(page) >= SECOND_SLIDE_PIXELS and not _is_copy(page, slide):
            raise SourceError(
                f"it holds two slides, of {size[0]} × {size[1]} and {page.imagewidth} × {page.imagelength} pixels. "
                "Write each to a file of its own"
            )


def _is_copy(page: TiffPage, of: TiffPage) -> bool:
    """Whether the page has the shape of the other, as far as rounding tells."""
    expected = of.imagelength * page.imagewidth / of.imagewidth
    return bool(abs(page.imagelength - expected) <= max(2, 0.01 * expected))


def _smaller_levels(image: Sequence[TiffPage]) -> list[TiffPage]:
    """Of an image's other pages those that are the same picture, each smaller than the one before."""
    kept = [image[0]]
    for page in sorted(image[1:], key=_area, reverse=True):
        if _is_copy(page, image[0]) and _area(page) < _area(kept[-1]) and not _problem(page):
            kept.append(page)
    return kept[1:]


AS_RGB = "Write it as 8-bit RGB"


def _problem(page: TiffPage) -> str:
    """Why a page cannot be read as colours; empty if it can."""
    if page.samplesperpixel != 3 and not _has_alpha(page):
        return f"a pixel has {page.samplesperpixel} channel(s), not red, green and blue. {AS_RGB}"
    if page.dtype != "uint8" or page.bitspersample != 8:
        return f"a channel has {page.bitspersample} bits of type {page.dtype}, not 8. {AS_RGB}"
    if page.photometric.name not in ("RGB", "YCBCR"):
        return f"its colours are {page.photometric.name}, not RGB. {AS_RGB}"
    if page.compression == APERIO_YCBCR or (page.photometric.name == "YCBCR" and page.compression not in JPEG):
        return f"its colours are YCbCr in {codec(page)}, not RGB. {AS_RGB}"
    return _codec_problem(page) or _layout_problem(page)


def _has_alpha(page: TiffPage) -> bool:
    return bool(page.samplesperpixel == 4 and page.planarconfig == 1 and tuple(page.extrasamples) in ((1,), (2,)))


def is_multiplied(page: TiffPage) -> bool:
    """Whether the colours of a page with an alpha channel are multiplied by it."""
    return tuple(page.extrasamples) == (1,)


def _codec_problem(page: TiffPage) -> str:
    from tifffile import TIFF

    try:
        TIFF.DECOMPRESSORS[page.compression]
    except KeyError:
        return f"its codec {codec(page)} is not one that can be decoded. Write it with JPEG, deflate or zstd"
    return ""


def _layout_problem(page: TiffPage) -> str:
    if page.tags.valueof(ORIENTATION, 1) != 1:
        return "its pixels are stored turned or mirrored. Write it with the first row at the top"
    if not any(page.databytecounts):
        return "all of its tiles are empty, as if writing it was broken off. Write it again"
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    size = min(rows, page.imagelength) * columns * 3
    if size <= MOST_SEGMENT_BYTES:
        return ""
    return (
        f"its pixels lie in pieces of {size / 1e9:.1f} GB that cannot be read in part. "
        "Write it in tiles, for instance with: vips tiffsave IN OUT.tif --tile --pyramid --bigtiff --compression deflate"
    )


def codec(page: TiffPage) -> str:
    """Name and number of the codec of a page's tiles: "WEBP (50001)"."""
    number = int(page.compression)
    return f"{getattr(page.compression, 'name', 'unknown')} ({number})"
