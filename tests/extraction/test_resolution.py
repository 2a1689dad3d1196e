"""Resolution: the level that is read, and slides that do not tell theirs, or tell two."""

from __future__ import annotations

import numpy as np
import pytest
from array_slides import ArraySlide

from milbench.errors import DataError
from milbench.extraction.resolution import Microns, Reading, microns_of, reading_of
from milbench.extraction.settings import Settings

PIXELS = np.zeros((64, 64, 3), np.uint8)


def slide(
    mpp: tuple[float, float] | None = (0.25, 0.25), power: float | None = 40.0, downsamples: tuple[int, ...] = (1, 2, 8)
) -> ArraySlide:
    return ArraySlide(PIXELS, mpp, power, downsamples)


def reading(made: ArraySlide, **asked: float) -> Reading:
    settings = Settings(mpp=asked.get("mpp"), magnification=asked.get("magnification"))
    return reading_of(made, microns_of(made, "a", None, settings), settings)


@pytest.mark.parametrize(
    ("mpp", "level", "edge"),
    [
        (0.5, 1, 256),
        (0.509, 1, 256),
        (0.49, 0, 501.76),
        (0.25, 0, 256),
        (0.2455, 0, 256),
        (0.375, 0, 384),
        (1.0, 1, 512),
        (2.0, 2, 256),
    ],
)
def test_a_level_within_two_percent_is_read_as_it_is_else_a_finer_one_is_made_smaller(
    mpp: float, level: int, edge: float
) -> None:
    found = reading(slide(), mpp=mpp)
    assert (found.level, found.edge) == (level, pytest.approx(edge))
    assert found.mpp == pytest.approx(mpp, rel=0.02)
    assert found.patch_size_level0 == pytest.approx(256 * found.mpp / 0.25)


def test_patches_that_were_not_resampled_tell_the_resolution_that_they_have() -> None:
    assert reading(slide((0.2527, 0.2527)), mpp=0.5).mpp == pytest.approx(0.5054)
    assert reading(slide((0.2527, 0.2527)), magnification=20)[3:] == (256, pytest.approx(0.5054), 20)


def test_magnification_goes_by_the_objective_and_else_by_microns() -> None:
    assert reading(slide((0.23, 0.23)), magnification=20).patch_size_level0 == 512
    assert reading(slide((0.23, 0.23), power=None), magnification=20).patch_size_level0 == pytest.approx(512 / 0.92)
    assert reading(slide((0.5, 0.5), power=None), magnification=20).patch_size_level0 == 256


def test_more_detail_than_the_slide_has_is_refused() -> None:
    with pytest.raises(DataError, match=r"0.5 microns per pixel, coarser than --mpp 0.25"):
        reading(slide((0.5, 0.5)), mpp=0.25)
    with pytest.raises(DataError, match=r"20x, coarser than --magnification 40"):
        reading(slide((0.5, 0.5), power=20), magnification=40)
    assert reading(slide((0.5021, 0.5021)), mpp=0.5).edge == 256, "less than 2 % is nothing"


def test_a_slide_without_microns_is_refused_with_the_flag_that_gives_them() -> None:
    with pytest.raises(DataError, match=r"--mpp-of a=0\.25"):
        microns_of(slide(None), "a", None, Settings(mpp=0.5, magnification=None))
    with pytest.raises(DataError, match=r"--mpp-of a=0\.25"):
        microns_of(slide(None, power=None), "a", None, Settings())
    assert microns_of(slide(None, power=None), "a", 0.3, Settings()) == Microns(0.3, 0.3)


def test_an_objective_stands_in_for_microns_where_a_magnification_is_asked_and_this_is_said() -> None:
    found = microns_of(slide(None), "a", None, Settings())
    assert found[:2] == (0.25, 0.25)
    assert "tells 40x and no microns per pixel" in found.notes[0]


def test_pixels_that_are_no_squares_are_refused_beyond_two_percent() -> None:
    with pytest.raises(DataError, match=r"0.25 µm wide and 0.26 µm high.*--mpp-of a"):
        microns_of(slide((0.25, 0.26)), "a", None, Settings())
    assert microns_of(slide((0.25, 0.2549)), "a", None, Settings()).mean == pytest.approx(0.25245)
    assert microns_of(slide((0.25, 0.26)), "a", 0.25, Settings()).mean == 0.25


def test_an_objective_that_contradicts_the_microns_is_said() -> None:
    assert "usual at 20x" in microns_of(slide((0.5, 0.5)), "a", None, Settings()).notes[0]
    for usual in (0.22, 0.2738):
        assert microns_of(slide((usual, usual)), "a", None, Settings()).notes == ()


def test_microns_that_the_user_tells_against_the_objective_are_said() -> None:
    asked = Settings()
    assert "tells 40x, but 0.5 microns" in microns_of(slide(), "a", 0.5, asked).notes[0]
    assert microns_of(slide(), "a", 0.26, asked).notes == ()
