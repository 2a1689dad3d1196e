"""Sheet: a picture per slide, to see at a glance whether tissue was found and where patches lie."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milbench.extraction.grid import Corners
from milbench.extraction.tissue import Mask, Tissue
from milbench.extraction.writing import writing
from milbench.store.files import write_atomically

SHEETS = "sheets"
"""Folder of the sheets, beside the feature files."""

LONGEST_EDGE = 1200
TISSUE, HOLE, PATCH = (0, 130, 60), (200, 60, 0), (40, 70, 200)
"""Colours of outlines: green around tissue, orange around holes, blue around patches."""


def write_sheet(path: Path, tissue: Tissue, corners: Corners, patch_size_level0: float) -> None:
    """Write the sheet as PNG, whole or not at all.

    Raises
    ------
    StoreError : the system refuses to write it.
    """
    content = io.BytesIO()
    _image(sheet(tissue, corners, patch_size_level0)).save(content, "PNG")
    with writing(path.parent):
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, content.getvalue())


def sheet(tissue: Tissue, corners: Corners, patch_size_level0: float) -> NDArray[np.uint8]:
    """The slide made small, with outlines of tissue, of holes and of patches; uint8 [rows, columns, 3]."""
    from PIL import ImageDraw

    rows, columns = tissue.picture.shape[:2]
    enlarge = LONGEST_EDGE / max(rows, columns)
    size = max(round(columns * enlarge), 1), max(round(rows * enlarge), 1)
    image = _image(tissue.picture).resize(size)
    scale = tissue.scale[0] * columns / size[0], tissue.scale[1] * rows / size[1]
    pen = ImageDraw.Draw(image)
    for x, y in corners.tolist():
        right, lower = x + patch_size_level0, y + patch_size_level0
        pen.rectangle((x / scale[0], y / scale[1], right / scale[0], lower / scale[1]), outline=PATCH)
    pixels = np.array(image)
    _outline(pixels, tissue.mask(), TISSUE)
    _outline(pixels, _holes(tissue), HOLE)
    return pixels


def _image(pixels: NDArray[np.uint8]) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


def _holes(tissue: Tissue) -> Mask:
    found = np.zeros(tissue.picture.shape[:2], bool)
    for piece in tissue.pieces:
        rows, columns = piece.holes.shape
        found[piece.top : piece.top + rows, piece.left : piece.left + columns] |= piece.holes
    return found


def _outline(pixels: NDArray[np.uint8], mask: Mask, colour: tuple[int, int, int]) -> None:
    """Colour the border of the mask, two pixels wide."""
    from PIL import Image
    from scipy.ndimage import binary_dilation, binary_erosion

    large = np.asarray(Image.fromarray(mask).resize((pixels.shape[1], pixels.shape[0]), Image.Resampling.NEAREST))
    pixels[binary_dilation(large) & ~binary_erosion(large, border_value=True)] = colour
