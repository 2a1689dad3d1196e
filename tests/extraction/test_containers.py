"""Containers: one slide as TIFF, OME-TIFF and DICOM has the same patches and features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from extraction_for_tests import SETTINGS, Colours, stored
from made_slides import aperio_slide, dicom_slide, ome_tiff_slide, tiff_slide, tissue_pixels

from milbench.extraction.asked_slides import asked_slides
from milbench.extraction.features import extract


@pytest.mark.parametrize("mpp", [0.5, 1.0, 0.8])
def test_every_container_gives_the_same_patches_and_features(
    tmp_path: Path, mpp: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milbench.extraction.sheet.LONGEST_EDGE", 100)
    pixels = tissue_pixels(768, 512, seed=3)
    slides = tmp_path / "slides"
    slides.mkdir()
    tiff_slide(slides / "plain.tiff", pixels, 0.5)
    tiff_slide(slides / "big.tif", pixels, 0.5, bigtiff=True)
    aperio_slide(slides / "aperio.svs", pixels, 0.5)
    ome_tiff_slide(slides / "ome.ome.tif", pixels, 0.5, label_first=True)
    dicom_slide(slides / "dicom", pixels, 0.5)
    settings = SETTINGS.__class__(None, mpp, 32, 32, "float32", "slide", SETTINGS.tissue)
    outcome = extract(asked_slides([slides], {}), Colours(), settings, tmp_path / "out", workers=0, batch=16)
    assert outcome.failed == {}
    assert sorted(outcome.done) == ["aperio", "big", "dicom", "ome", "plain"]
    features, coords, attributes, _ = stored(tmp_path / "out", "plain")
    assert attributes["patch_size_level0"] == pytest.approx(32 * mpp / 0.5)
    for other in ("aperio", "big", "dicom", "ome"):
        of_other = stored(tmp_path / "out", other)
        assert np.array_equal(of_other[1], coords)
        assert np.array_equal(of_other[0], features)
