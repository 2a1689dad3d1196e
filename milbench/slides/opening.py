"""Opening: from a path to the slide in it, with the library that reads it best."""

from __future__ import annotations

from pathlib import Path

from milbench.errors import DataError
from milbench.slides.dicom import is_dicom, refuse_incomplete, slide_file
from milbench.slides.openslide_source import OpenSlideSource, openslide_module
from milbench.slides.slide import Slide, Source, SourceError
from milbench.slides.tiff_source import TiffSource
from milbench.special_files import refuse_special

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF and of a BigTIFF."""

OTHER_STARTS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89HDF": "an HDF5 file (features?)",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF file",
}
"""First bytes of what is handed in for a slide, and what it is called."""


def open_slide(path: Path) -> Slide:
    """The slide in `path`: a file, any file of a DICOM series, or the folder of one.

    Raises
    ------
    UsageError : the extra is not installed.
    DataError : no slide, or a damaged or incomplete one, or one whose codec or pixel type cannot be read.
    """
    refuse_special(path, DataError)
    try:
        file = slide_file(path) if path.is_dir() else path
        return Slide(file, _source(file, _first_bytes(file)))
    except SourceError as error:
        raise DataError(f"{path} cannot be read as a slide: {error}.") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be opened: {why}. Check the path and its rights.") from error


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise SourceError("it is empty (0 bytes). Copy it again from its source")
    return start


def _source(path: Path, start: bytes) -> Source:
    vendor = openslide_module().OpenSlide.detect_format(str(path))
    if vendor == "dicom":
        return _dicom(path)
    if start in TIFF_STARTS and vendor in (None, "generic-tiff"):  # no scanner's own kind of TIFF
        return TiffSource(path)
    if vendor is None:
        raise SourceError(_what_it_is(path, start))
    return OpenSlideSource(path)


def _dicom(path: Path) -> OpenSlideSource:
    source = OpenSlideSource(path)
    try:
        refuse_incomplete(source.facts, source.properties)
    except SourceError:
        source.close()
        raise
    return source


def _what_it_is(path: Path, start: bytes) -> str:
    if path.suffix.lower() == ".mrxs":
        return f"its data are missing. Put the folder {path.stem} with Slidedat.ini beside it"
    if is_dicom(path):
        return "it is DICOM, but damaged or no VL Whole Slide Microscopy image. Name a file of the slide's series"
    kind = next((kind for begin, kind in OTHER_STARTS.items() if start.startswith(begin)), "")
    if "picture" in kind:
        return (
            f"it is {kind}, which has no levels and no microns per pixel. Write it as a pyramid, for instance with: "
            "vips tiffsave IN OUT.tif --tile --pyramid --compression deflate"
        )
    return f"it is {kind or 'no container that OpenSlide or tifffile knows'}, not a slide. Name another file"
