"""Reading TIFF: memory stays flat, tiles are decoded once for neighbours, and processes and threads do not disturb each other."""

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_slides import Pixels, ome_tiff_slide, ome_xml, tiff_slide, tile_options

from milbench.slides import open_slide, tiff_source

EDGE = 16384
"""Of a slide whose level 0 takes 805 MB, in one level."""


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("huge") / "S1.ome.tif"
    tile = np.full((1024, 1024, 3), 200, np.uint8)
    stand_in = np.broadcast_to(tile[:1, :1], (EDGE, EDGE, 3))
    with tifffile.TiffWriter(path, bigtiff=True, ome=False) as file:
        file.write(
            (tile for _ in range((EDGE // 1024) ** 2)), shape=(EDGE, EDGE, 3), dtype=np.uint8, tile=(1024, 1024),
            photometric="rgb", compression="zstd", metadata=None, description=ome_xml([stand_in], [0.5], "µm", None).encode(),
        )  # fmt: skip
    return path


def test_reading_keeps_a_few_tiles_and_never_a_level(huge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_source, "CACHE_BYTES", 4 * 1024 * 1024 * 3)
    tracemalloc.start()
    with open_slide(huge) as slide:
        for at in range(0, EDGE, 1024):
            assert (slide.read(0, at, at, 256, 256) == 200).all()
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000


def test_a_tile_that_two_regions_share_is_decoded_once(
    tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    original = tiff_source._decoded
    monkeypatch.setattr(tiff_source, "_decoded", lambda *given: decoded.append(given[2]) or original(*given))
    with open_slide(ome_tiff_slide(tmp_path / "S1.ome.tif", pixels)) as slide:
        for left in range(0, 1000, 100):
            slide.read(0, left, 128, 100, 256)
    assert sorted(decoded) == list(range(8))


def test_a_tile_that_was_left_out_is_white(tmp_path: Path, pixels: Pixels) -> None:
    path = tmp_path / "S1.tif"
    tiles: Iterator[Pixels | None] = iter([pixels[:256, :256], None, None, pixels[256:512, 256:512]])
    with tifffile.TiffWriter(path) as file:
        file.write(tiles, shape=(512, 512, 3), dtype=np.uint8, photometric="rgb", compression="zlib", **tile_options())
    with open_slide(path) as slide:
        read = slide.read(0, 0, 0, 512, 512)
    expected = pixels[:512, :512].copy()
    expected[:256, 256:] = expected[256:, :256] = 255
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_jpeg_has_the_pixels_that_openslide_finds(tmp_path: Path, pixels: Pixels, subsampling: tuple[int, int]) -> None:
    import openslide

    path = tiff_slide(tmp_path / "S1.tif", pixels, compression="jpeg", subsampling=subsampling)
    with open_slide(path) as slide, openslide.OpenSlide(path) as other:
        region = other.read_region((0, 0), 0, (1000, 700)).convert("RGB")
        np.testing.assert_array_equal(slide.read(0, 0, 0, 1000, 700), np.asarray(region))


def test_threads_share_a_slide(tmp_path: Path, pixels: Pixels) -> None:
    places = [(x, y) for x in range(0, 900, 90) for y in range(0, 600, 90)]
    with open_slide(ome_tiff_slide(tmp_path / "S1.ome.tif", pixels)) as slide, ThreadPoolExecutor(4) as pool:
        for (x, y), read in zip(places, pool.map(lambda at: slide.read(0, *at, 100, 100), places), strict=True):
            np.testing.assert_array_equal(read, pixels[y : y + 100, x : x + 100])


def test_a_forked_process_reads_the_slide_that_its_parent_opened(tmp_path: Path, pixels: Pixels) -> None:
    with open_slide(ome_tiff_slide(tmp_path / "S1.ome.tif", pixels)) as slide:
        context = get_context("fork")
        here, there = context.Pipe()
        child = context.Process(target=lambda: there.send_bytes(slide.read(0, 256, 256, 256, 256).tobytes()))
        child.start()
        assert here.recv_bytes() == pixels[256:512, 256:512].tobytes()
        child.join()
