"""Opening: from a path to the slide in it."""

from __future__ import annotations

from pathlib import Path

from milbench.errors import DataError
from milbench.slides.openslide_source import OpenSlideSource
from milbench.slides.slide import Slide, SourceError
from milbench.special_files import refuse_special


def open_slide(path: Path) -> Slide:
    """The slide in `path`: a file, any file of a DICOM series, or the folder of one.

    Raises
    ------
    UsageError : the extra is not installed.
    DataError : no slide, or a damaged or incomplete one.
    """
    refuse_special(path, DataError)
    try:
        return Slide(path, OpenSlideSource(path))
    except SourceError as error:
        raise DataError(f"{path} cannot be read as a slide: {error}.") from error
