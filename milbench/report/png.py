"""PNG of pixels, written in a third of the time of matplotlib's.

Pillow tries five filters for every row, which are made for photographs. Figures are flat: rows without a filter, at a lower level
of compression, give files of the same size.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEVEL = 3
"""Of zlib, from 1 to 9. Files of figures are about as large as Pillow's at 6."""
INCHES_IN_A_METRE = 1 / 0.0254


def write_png(file: BinaryIO, pixels: NDArray[np.uint8], dpi: int) -> None:
    """Write pixels [height, width, 4] of red, green, blue and opacity, and how many there are per inch."""
    height, width, _ = pixels.shape
    rows: NDArray[Any] = np.zeros((height, 1 + 4 * width), dtype=np.uint8)  # each begins with its filter, 0 = none
    rows[:, 1:] = pixels.reshape(height, -1)
    per_metre = round(dpi * INCHES_IN_A_METRE)
    file.write(
        SIGNATURE
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
        + _chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))
        + _chunk(b"IDAT", zlib.compress(rows.data, LEVEL))
        + _chunk(b"IEND", b"")
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
