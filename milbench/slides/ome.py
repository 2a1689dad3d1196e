"""OME-XML: how large a pixel is, and what the objective magnifies, as an OME-TIFF's first page describes them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import NamedTuple

MICRONS = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "Å": 1e-4, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25400.0}
"""Of one unit (two letters look like µ); others ("pixel", "reference frame") tell no size."""


class OmeImage(NamedTuple):
    """What the description tells of one image; None where it does not."""

    microns_per_pixel: tuple[float, float] | None = None
    magnification: float | None = None


def ome_image(text: str, width: int, height: int) -> OmeImage:
    """What OME-XML tells of the image of this size; nothing if there is none, or if the text is no XML."""
    try:
        root = ET.fromstring(text)  # noqa: S314 - expat bounds entities since 2.4.1, and opens no other file
    except (ET.ParseError, ValueError):
        return OmeImage()
    for image in root.iterfind("{*}Image"):
        pixels = image.find("{*}Pixels")
        if pixels is not None and (pixels.get("SizeX"), pixels.get("SizeY")) == (str(width), str(height)):
            return OmeImage(_microns(pixels), _magnification(root, image))
    return OmeImage()


def _microns(pixels: ET.Element) -> tuple[float, float] | None:
    x, y = (_edge(pixels, axis) for axis in "XY")
    return (x, y) if x and y else None


def _edge(pixels: ET.Element, axis: str) -> float | None:
    unit = MICRONS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    size = _number(pixels.get(f"PhysicalSize{axis}"))
    return size * unit if size and unit else None


def _magnification(root: ET.Element, image: ET.Element) -> float | None:
    settings = image.find("{*}ObjectiveSettings")
    wanted = None if settings is None else settings.get("ID")
    for objective in root.iterfind("{*}Instrument/{*}Objective"):
        if wanted is not None and objective.get("ID") == wanted:
            return _number(objective.get("NominalMagnification"))
    return None


def _number(text: str | None) -> float | None:
    try:
        return float(text or "") or None
    except ValueError:
        return None
