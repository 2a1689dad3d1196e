"""One picture in every container, written once for all tests of slides."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from made_slides import (
    Pixels,
    aperio_slide,
    dicom_slide,
    ome_tiff_slide,
    pyramid,
    tiff_slide,
    tissue_pixels,
)

WIDTH, HEIGHT = 1000, 700  # no multiple of a tile, and halved twice to whole pixels


@pytest.fixture(scope="session")
def pixels() -> Pixels:
    return tissue_pixels(WIDTH, HEIGHT)


@pytest.fixture(scope="session")
def levels(pixels: Pixels) -> list[Pixels]:
    """The slide's three levels, made without milbench."""
    return pyramid(pixels, 3)


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory, pixels: Pixels) -> Mapping[str, Path]:
    """Path of the same slide by container."""
    folder = tmp_path_factory.mktemp("containers")
    return {
        "tiled TIFF": tiff_slide(folder / "a.tiff", pixels),
        "BigTIFF": tiff_slide(folder / "b.tif", pixels, bigtiff=True, compression="zstd"),
        "TIFF in strips": tiff_slide(folder / "c.tif", pixels, tiled=False, compression="lzw"),
        "TIFF of WebP tiles": tiff_slide(folder / "d.tif", pixels, compression="webp", compressionargs={"lossless": True}),
        "TIFF of JPEG 2000 tiles": tiff_slide(folder / "e.tif", pixels, compression="jpeg2000"),
        "Aperio": aperio_slide(folder / "f.svs", pixels),
        "OME-TIFF": ome_tiff_slide(folder / "g.ome.tif", pixels),
        "OME-TIFF, label first": ome_tiff_slide(folder / "h.ome.tiff", pixels, label_first=True),
        "OME-TIFF, planes apart": ome_tiff_slide(folder / "i.ome.tif", pixels, planar=True),
        "OME-TIFF, planes in strips": ome_tiff_slide(folder / "j.ome.tif", pixels, planar=True, tiled=False),
        "OME-BigTIFF": ome_tiff_slide(folder / "k.ome.btf", pixels, bigtiff=True, compression=None),
        "DICOM": dicom_slide(folder / "l", pixels, label=True),
        "DICOM, its smallest file": dicom_slide(folder / "m", pixels) / "level_2.dcm",
    }  # fmt: skip
