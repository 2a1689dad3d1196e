"""Two small slides and their features, made once for each module."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extraction_for_tests import make_slides, run

from milbench.extraction.features import Outcome


@pytest.fixture(scope="module")
def small_sheets() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("milbench.extraction.sheet.LONGEST_EDGE", 100)
        yield


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("slides")
    return folder, make_slides(folder, "ab")


@pytest.fixture(scope="module")
def extracted(
    pixels: tuple[Path, dict[str, np.ndarray]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("out")
    return out, run(pixels[0], out)


@pytest.fixture
def again(extracted: tuple[Path, Outcome], pixels: tuple[Path, Any], tmp_path: Path) -> tuple[Path, Path]:
    """Copies of slides and features."""
    return (
        Path(shutil.copytree(pixels[0], tmp_path / "slides")),
        Path(shutil.copytree(extracted[0], tmp_path / "out")),
    )
