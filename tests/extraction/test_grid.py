"""Grid: coordinates to the pixel, against shapes known by hand and a loop over patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from array_slides import ArraySlide

from milbench.errors import DataError
from milbench.extraction.grid import corners_of
from milbench.extraction.resolution import Microns, Reading, reading_of
from milbench.extraction.settings import Settings
from milbench.extraction.tissue import Piece, Tissue

SETTINGS = Settings(mpp=0.5, magnification=None)
BOUNDS = (0, 0, 4096, 3072)
PLAIN = Reading(0, 1.0, 256.0, 256.0, 0.5, 20.0)


def tissue(*boxes: tuple[int, int, int, int], scale: float = 16.0) -> Tissue:
    """Full pieces, by left, top, width, height in pixels of a picture of 256 × 192."""
    pieces = (Piece(x, y, np.ones((h, w), bool), np.zeros((h, w), bool)) for x, y, w, h in boxes)
    return Tissue(tuple(pieces), np.zeros((192, 256, 3), np.uint8), (scale, scale))


def blob(seed: int) -> Tissue:
    """A ragged piece with a hole."""
    rng = np.random.default_rng(seed)
    outline, holes = rng.random((60, 90)) < 0.5, np.zeros((60, 90), bool)
    holes[20:40, 30:50] = True
    return Tissue((Piece(35, 40, outline | holes, holes),), np.zeros((192, 256, 3), np.uint8), (16.0, 16.0))


def by_loop(tissue: Tissue, edge: float, corners: list[tuple[int, int]], rule: str) -> list[tuple[int, int]]:
    """Corners of the patches that count, asked point by point on the whole picture."""
    found = []
    for x, y in corners:
        for piece in tissue.pieces:
            outline, holes = np.zeros((2, 192, 256), bool)
            box = np.s_[piece.top : piece.top + len(piece.outline), piece.left : piece.left + piece.outline.shape[1]]
            outline[box], holes[box] = piece.outline, piece.holes
            middle = x + edge / 2, y + edge / 2
            points = [(middle[0] + a * edge / 4, middle[1] + b * edge / 4) for a in (-1, 1) for b in (-1, 1)]
            points = [middle] if rule == "centre" else points
            if (
                any(outline[int(b // 16), int(a // 16)] for a, b in points)
                and not holes[int(middle[1] // 16), int(middle[0] // 16)]
            ):
                found.append((x, y))
                break
    return found


def test_one_grid_begins_at_the_corner_of_the_slide_and_goes_row_by_row() -> None:
    corners = corners_of(tissue((32, 16, 48, 32)), PLAIN, BOUNDS, SETTINGS)  # level-0 pixels 512 to 1280, 256 to 768
    assert corners.tolist() == [[x, y] for y in (256, 512) for x in (512, 768, 1024)]
    assert corners.dtype == np.int64


def test_a_grid_per_piece_begins_at_the_corner_of_each() -> None:
    found = corners_of(tissue((3, 5, 32, 16), (100, 7, 16, 16)), PLAIN, BOUNDS, replace(SETTINGS, grid="per-tissue"))
    assert found.tolist() == [[48, 80], [304, 80], [1600, 112]]


def test_a_patch_of_two_pieces_counts_once_on_one_grid() -> None:
    assert corners_of(tissue((0, 0, 8, 16), (8, 0, 8, 16)), PLAIN, BOUNDS, SETTINGS).tolist() == [[0, 0]]


@pytest.mark.parametrize("rule", ["four-points", "centre"])
@pytest.mark.parametrize("seed", range(3))
def test_the_patches_that_count_are_those_whose_points_lie_in_tissue(rule: str, seed: int) -> None:
    made = blob(seed)
    everywhere = [(x, y) for y in range(0, 3072, 256) for x in range(0, 4096, 256)]
    settings = replace(SETTINGS, tissue=replace(SETTINGS.tissue, rule=rule))
    found = corners_of(made, PLAIN, BOUNDS, settings)
    assert [tuple(each) for each in found.tolist()] == by_loop(made, 256, everywhere, rule)
    assert 5 < len(found) < 60


def test_the_grid_of_a_slide_with_bounds_begins_at_their_corner() -> None:
    assert corners_of(tissue((0, 0, 256, 192)), PLAIN, (100, 40, 512, 256), SETTINGS).tolist() == [[100, 40], [356, 40]]


def test_corners_lie_on_whole_pixels_of_the_level() -> None:
    reading = Reading(1, 4.0, 80.4, 80.4, 2.0, None)  # 321.6 level-0 pixels
    found = corners_of(tissue((0, 0, 256, 192)), reading, BOUNDS, SETTINGS)
    assert not (found % 4).any()
    expected = [4 * int(80.4 * k + 0.5) for k in range(13)]
    assert sorted(set(found[:, 0].tolist())) == expected
    assert expected[-1] == 3860 < 4096 <= expected[-1] + 321.6


def test_overlapping_patches_are_laid_out_by_their_step() -> None:
    reading = PLAIN._replace(step=128.0)
    found = corners_of(tissue((0, 0, 32, 16)), reading, BOUNDS, SETTINGS)
    assert np.unique(found[:, 0]).tolist() == [0, 128, 256, 384]


def test_a_step_of_a_pixel_is_refused_before_memory_is_gone() -> None:
    with pytest.raises(DataError, match="larger --step"):
        corners_of(tissue((0, 0, 256, 192)), PLAIN._replace(step=1.0), BOUNDS, SETTINGS)


def test_no_tissue_gives_no_corners() -> None:
    assert corners_of(tissue(), PLAIN, BOUNDS, SETTINGS).shape == (0, 2)
    assert corners_of(tissue(), PLAIN, BOUNDS, replace(SETTINGS, grid="per-tissue")).shape == (0, 2)


def test_the_grid_of_a_reading_from_a_slide_of_40x_has_patches_of_512() -> None:
    slide = ArraySlide(np.zeros((3072, 4096, 3), np.uint8))
    reading = reading_of(slide, Microns(0.25, 0.25), Settings())
    found = corners_of(tissue((0, 0, 64, 32)), reading, BOUNDS, Settings())
    assert found.tolist() == [[0, 0], [512, 0]]
