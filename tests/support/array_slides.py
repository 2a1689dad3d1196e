"""A slide made of an array: what `milbench.slides.open_slide` returns, without a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milbench.slides import Level


@dataclass
class ArraySlide:
    """Level 0 is `pixels` [rows, columns, 3]; each level is averaged from it. `reads` lists all calls of `read`."""

    pixels: NDArray[np.uint8]
    microns_per_pixel: tuple[float, float] | None = (0.25, 0.25)
    magnification: float | None = 40.0
    downsamples: tuple[int, ...] = (1, 4)
    path: Path = Path("slide.tiff")

    def __post_init__(self) -> None:
        self.reads: list[tuple[int, int, int, int, int]] = []
        rows, columns, _ = self.pixels.shape
        self.levels = tuple(Level(columns // each, rows // each, float(each)) for each in self.downsamples)
        self.bounds = (0, 0, columns, rows)

    def read(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        self.reads.append((level, left, top, width, height))
        each = self.downsamples[level]
        rows, columns, _ = self.pixels.shape
        small = self.pixels.reshape(rows // each, each, columns // each, each, 3).mean((1, 3)).round().astype(np.uint8)
        canvas = np.full((height, width, 3), 255, np.uint8)
        y, x = top // each, left // each
        part = small[y : y + height, x : x + width]
        canvas[: part.shape[0], : part.shape[1]] = part
        return canvas

    def picture(self, most_pixels: int) -> NDArray[np.uint8]:
        rows, columns, _ = self.pixels.shape
        shrink = max(max(rows, columns) / most_pixels, 1.0)
        size = max(round(columns / shrink), 1), max(round(rows / shrink), 1)
        return np.asarray(Image.fromarray(self.pixels).resize(size, Image.Resampling.BOX))
