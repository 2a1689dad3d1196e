"""Tissue: against filters of SciPy and loops over pixels, and on shapes whose area is known."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest
from array_slides import ArraySlide
from scipy import ndimage

from milbench.errors import UsageError
from milbench.extraction.settings import TissueSettings, tissue_settings
from milbench.extraction.tissue import Piece, coloured, find_tissue, pieces_on, saturation

WHITE, PINK = (245, 245, 245), (220, 120, 180)
NO_SMOOTHING = TissueSettings(median=1, closing=0, smallest_piece=0, smallest_hole=0)


def painted(*pink: tuple[slice, slice], shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    picture = np.full((*shape, 3), WHITE, np.uint8)
    for rows, columns in pink:
        picture[rows, columns] = PINK
    return picture


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def closed_by_loops(mask: np.ndarray, edge: int) -> np.ndarray:
    """A pixel is closed if every square that holds it also holds a pixel of the mask; squares may stick out."""
    rows, columns = mask.shape
    result = np.ones_like(mask)
    for y in range(1 - edge, rows):
        for x in range(1 - edge, columns):
            square = slice(max(y, 0), y + edge), slice(max(x, 0), x + edge)
            if not mask[square].any():
                result[square] = False
    return result


def test_saturation_is_that_of_hsv() -> None:
    picture = noise(0)
    picture[0, 0] = 0
    expected = [[colorsys.rgb_to_hsv(*(pixel / 255))[1] * 255 for pixel in row] for row in picture]
    assert np.abs(saturation(picture) - np.array(expected)).max() <= 0.51
    assert saturation(picture)[0, 0] == 0


def test_a_pixel_is_coloured_if_the_median_around_it_is_and_gaps_are_closed() -> None:
    rng = np.random.default_rng(1)
    picture = np.where(rng.random((40, 50, 1)) < 0.42, PINK, WHITE).astype(np.uint8)
    settings = TissueSettings(median=5, closing=4)
    median = ndimage.median_filter(saturation(picture), 5, mode="nearest")
    assert 0.05 < (median > 8).mean() < 0.95
    assert np.array_equal(coloured(picture, settings), closed_by_loops(median > 8, 4))


@pytest.mark.parametrize("edge", [2, 3, 4, 7])
def test_closing_takes_no_tissue_away_also_at_the_border(edge: int) -> None:
    picture = painted((slice(0, 5), slice(0, 9)), (slice(55, 60), slice(70, 80)))
    tissue = coloured(picture, replace(NO_SMOOTHING, closing=edge))
    assert np.array_equal(tissue, saturation(picture) > 8)


def test_otsu_finds_a_threshold_between_two_colours_that_both_are_above_eight() -> None:
    picture = np.full((30, 40, 3), (230, 215, 200), np.uint8)
    picture[10:20, 10:30] = (200, 80, 120)
    fixed, otsu = (coloured(picture, replace(NO_SMOOTHING, otsu=otsu)) for otsu in (False, True))
    assert fixed.all()
    assert np.array_equal(np.argwhere(otsu)[[0, -1]], [(10, 10), (19, 29)])


@pytest.mark.parametrize("otsu", [False, True])
def test_a_blank_slide_has_no_tissue(otsu: bool) -> None:
    assert not coloured(painted(), replace(NO_SMOOTHING, otsu=otsu)).any()
    assert find_tissue(ArraySlide(painted(shape=(640, 640))), 0.25, TissueSettings(otsu=otsu)).pieces == ()


def found(picture: np.ndarray, square: float = 1.0, **settings: float) -> list[Piece]:
    return list(pieces_on(picture, square, replace(NO_SMOOTHING, **settings)))


def test_small_pieces_are_left_out_by_their_area_without_holes() -> None:
    picture = painted((slice(2, 12), slice(2, 12)), (slice(20, 40), slice(20, 40)))
    picture[25:35, 25:35] = WHITE  # 300 pixels are left
    assert [(piece.left, piece.top) for piece in found(picture, smallest_piece=99)] == [(2, 2), (20, 20)]
    assert [(piece.left, piece.top) for piece in found(picture, smallest_piece=100)] == [(20, 20)]
    assert found(picture, smallest_piece=300) == []
    assert len(found(picture, square=3, smallest_piece=99.9)) == 1, "areas are counted in squares of 128 µm"


def test_large_holes_are_left_out_and_small_ones_filled() -> None:
    picture = painted((slice(0, 50), slice(0, 60)))
    for index, edge in enumerate((3, 4, 5)):
        picture[10 : 10 + edge, 10 * index + 5 : 10 * index + 5 + edge] = WHITE
    (piece,) = found(picture, smallest_hole=9)
    assert piece.outline.all()
    assert piece.holes.sum() == 16 + 25
    assert found(picture, smallest_hole=0, most_holes=1)[0].holes.sum() == 25
    assert found(picture, smallest_hole=0, most_holes=0)[0].holes.sum() == 0


def test_an_island_in_a_hole_belongs_to_the_hole_and_may_be_a_piece_of_its_own() -> None:
    picture = painted((slice(0, 50), slice(0, 60)))
    picture[10:40, 10:40] = WHITE
    picture[20:30, 20:30] = PINK
    outer, island = found(picture)
    assert outer.holes.sum() == 900
    assert (island.left, island.top, island.outline.sum()) == (20, 20, 100)


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    assert len(found(painted((slice(0, 10), slice(0, 10)), (slice(10, 20), slice(10, 20))))) == 1


def test_the_same_tissue_is_found_on_scans_of_two_resolutions() -> None:
    fine = np.kron(painted((slice(10, 50), slice(20, 60))), np.ones((32, 32, 1), np.uint8))
    coarse = fine[::2, ::2]
    one, other = (
        find_tissue(ArraySlide(pixels), mpp, TissueSettings(smallest_piece=6))
        for pixels, mpp in ((fine, 0.25), (coarse, 0.5))
    )
    assert np.array_equal(one.mask(), other.mask())
    assert (one.scale, other.scale) == ((32, 32), (16, 16))
    assert 1560 < one.mask().sum() < 1600, "1600 pixels, and the median rounds four corners off"


def test_settings_of_tissue_are_named_and_checked() -> None:
    assert tissue_settings(["otsu=true", "smallest_piece=0.5"]) == TissueSettings(otsu=True, smallest_piece=0.5)
    for word, message in (
        ("satuartion=9", "Did you mean 'saturation'"),
        ("median=x", "takes a whole number, such as median=7"),
        ("otsu=1", "true or false"),
    ):
        with pytest.raises(UsageError, match=message):
            tissue_settings([word])
