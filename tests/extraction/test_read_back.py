"""Read back: what an extraction wrote, as the reader of features understands it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from extraction_for_tests import SETTINGS, Colours, files_of, make_slides, stored

from milbench.extraction.features import extract
from milbench.formats.detect import recognise


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_slides(folder / "slides", "ab")
    extract(files_of(folder / "slides"), Colours(), SETTINGS, folder / "out", workers=0, batch=8)
    return folder / "out"


def test_the_folder_is_recognised_as_milbench_s_own_and_read_to_the_bit(out: Path) -> None:
    folder = recognise(out)
    assert "milbench features: 2 .h5 files" in str(folder)
    for slide_id in "ab":
        features, coords, _, _ = stored(out, slide_id)
        slide = folder.read(folder.paths[slide_id])
        assert np.array_equal(slide.features.numpy(), features)
        assert np.array_equal(slide.coords.numpy(), coords)
        assert (slide.patch_size, slide.unit) == (64, "level-0 px")
