"""OpenSlide's side of a slide: SVS, NDPI, MRXS, SCN, BIF, CZI, DICOM, generic tiled TIFF and what else OpenSlide 4 reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from milbench.errors import UsageError
from milbench.slides.slide import Level, SlideFacts, SourceError

if TYPE_CHECKING:
    from openslide import OpenSlide


class OpenSlideSource:
    """A slide as OpenSlide sees it.

    Raises
    ------
    SourceError : OpenSlide does not open the file.
    """

    def __init__(self, path: Path) -> None:
        self._openslide = openslide_module()
        try:
            self._slide: OpenSlide = self._openslide.OpenSlide(str(path))
            self.properties: Mapping[str, str] = dict(self._slide.properties)
            self.facts = _facts(self._slide, self.properties)
        except self._openslide.OpenSlideError as error:
            raise SourceError(f"OpenSlide says '{error}'. If the file is incomplete, copy it again") from error

    def region(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels [height, width, 3] of `level`, all in pixels of that level."""
        downsample = self.facts.levels[level].downsample
        begin = (round(left * downsample), round(top * downsample))  # OpenSlide asks for level-0 pixels
        try:
            region = self._slide.read_region(begin, level, (width, height))
        except self._openslide.OpenSlideError as error:
            raise SourceError(str(error)) from error
        return on_white(region)

    def close(self) -> None:
        """Let go of the file."""
        self._slide.close()


def openslide_module() -> Any:
    """The package openslide.

    Raises
    ------
    UsageError : the extra is not installed.
    """
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the Python package without its library
        raise UsageError(
            f"slides are read with openslide, which is not installed ({error}). Install it with: pip install 'milbench[wsi]'"
        ) from error
    return openslide


def on_white(region: Any) -> NDArray[np.uint8]:
    """A picture with transparency as uint8 [height, width, 3] on white."""
    if region.getchannel("A").getextrema()[0] == 255:  # as nearly always: no need to mix
        return np.asarray(region.convert("RGB"))
    from PIL import Image

    white = Image.new("RGBA", region.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, region).convert("RGB"))


def _facts(slide: OpenSlide, properties: Mapping[str, str]) -> SlideFacts:
    sizes = zip(slide.level_dimensions, slide.level_downsamples, strict=True)
    levels = tuple(Level(width, height, downsample) for (width, height), downsample in sizes)
    x, y = (_number(properties, f"openslide.mpp-{axis}") for axis in "xy")
    microns = (x or y, y or x)  # one alone: square pixels
    return SlideFacts(
        container=properties["openslide.vendor"].replace("dicom", "DICOM"),
        levels=levels,
        microns_per_pixel=(microns[0], microns[1]) if microns[0] and microns[1] else None,
        magnification=_number(properties, "openslide.objective-power"),
        bounds=_bounds(properties, levels[0]),
    )


def _bounds(properties: Mapping[str, str], whole: Level) -> tuple[int, int, int, int]:
    left, top = (int(properties.get(f"openslide.bounds-{axis}") or 0) for axis in "xy")
    width = int(properties.get("openslide.bounds-width") or whole.width - left)
    height = int(properties.get("openslide.bounds-height") or whole.height - top)
    return left, top, width, height


def _number(properties: Mapping[str, str], name: str) -> float | None:
    try:
        return float(properties[name].replace(",", ".")) or None
    except (KeyError, ValueError):
        return None
