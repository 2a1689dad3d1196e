"""A PNG holds the pixels as they are, whatever compresses it."""

import io

import numpy as np
import pytest
from PIL import Image

from milbench.report import png


@pytest.mark.parametrize("library", ["libdeflate", "zlib"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 41)])
def test_a_png_holds_pixels_and_dots_per_inch(
    monkeypatch: pytest.MonkeyPatch, library: str, size: tuple[int, int]
) -> None:
    if library == "zlib":
        monkeypatch.setattr(png, "deflate", None)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), dtype=np.uint8)
    with Image.open(io.BytesIO(png.png_bytes(pixels, 160))) as picture:
        picture.load()
        assert picture.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(picture), pixels)
        assert picture.info["dpi"] == pytest.approx((160, 160), abs=0.02)
