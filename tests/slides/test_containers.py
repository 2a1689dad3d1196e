"""Every container gives the same levels, facts and pixels of the same slide, compared with the arrays they were made of."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_slides import Pixels, aperio_slide, dicom_slide, ome_tiff_slide, tiff_slide

from milbench.slides import Level, Slide, open_slide

CONTAINERS = (
    "tiled TIFF", "BigTIFF", "TIFF in strips", "TIFF of WebP tiles", "TIFF of JPEG 2000 tiles", "Aperio", "OME-TIFF",
    "OME-TIFF, label first", "OME-TIFF, planes apart", "OME-TIFF, planes in strips", "OME-BigTIFF", "DICOM",
    "DICOM, its smallest file",
)  # fmt: skip
REGIONS = [(0, 0, 0, 1000, 700), (0, 511, 303, 300, 300), (1, 510, 302, 200, 170), (2, 0, 0, 250, 175),
           (0, -40, -30, 90, 80), (1, 900, 600, 120, 130), (0, 5000, 0, 7, 5), (2, 996, 696, 1, 1)]  # fmt: skip


@pytest.fixture(scope="module")
def opened(slides: Mapping[str, Path]) -> Iterator[dict[str, Slide]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(open_slide(path)) for name, path in slides.items()}


@pytest.fixture(params=CONTAINERS)
def slide(request: pytest.FixtureRequest, opened: dict[str, Slide]) -> Slide:
    return opened[request.param]


def closed(path: Path) -> Slide:
    """The slide with its facts; its pixels cannot be read any more."""
    with open_slide(path) as slide:
        return slide


def expected(level: Pixels, left: int, top: int, width: int, height: int) -> Pixels:
    """A region of an array, white around it."""
    rows, columns = np.arange(top, top + height), np.arange(left, left + width)
    inside = ((rows >= 0) & (rows < len(level)))[:, None] & ((columns >= 0) & (columns < level.shape[1]))
    picked = level[rows.clip(0, len(level) - 1)][:, columns.clip(0, level.shape[1] - 1)]
    return np.where(inside[..., None], picked, 255)


def test_the_containers_are_all_that_are_made(slides: Mapping[str, Path]) -> None:
    assert set(slides) == set(CONTAINERS)


def test_levels_and_facts_are_those_that_were_written(slide: Slide) -> None:
    assert slide.levels == (Level(1000, 700, 1.0), Level(500, 350, 2.0), Level(250, 175, 4.0))
    assert slide.microns_per_pixel == pytest.approx((0.5, 0.5))
    assert slide.bounds == (0, 0, 1000, 700)


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_the_same_to_the_pixel(slide: Slide, levels: list[Pixels], region: tuple[int, ...]) -> None:
    level, left, top, width, height = region
    read = slide.read(*region)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, expected(levels[level], left >> level, top >> level, width, height))


@pytest.mark.parametrize(("most_pixels", "level"), [(9999, 0), (1000, 0), (500, 1), (250, 2)])
def test_a_picture_of_a_levels_size_is_that_level(
    slide: Slide, levels: list[Pixels], most_pixels: int, level: int
) -> None:
    np.testing.assert_array_equal(slide.picture(most_pixels), levels[level])


def test_a_picture_between_levels_is_the_same_in_every_container(opened: dict[str, Slide]) -> None:
    pictures = [slide.picture(333) for slide in opened.values()]
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)
    assert pictures[0].shape == (233, 333, 3)


def test_a_picture_of_a_slide_without_small_levels_is_the_mean_of_each_area(tmp_path: Path, pixels: Pixels) -> None:
    with open_slide(ome_tiff_slide(tmp_path / "flat.ome.tif", pixels, levels=1)) as slide:
        picture = slide.picture(100)
    means = pixels.reshape(70, 10, 100, 10, 3).mean((1, 3))
    assert np.abs(picture - means).max() <= 1


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["OME-TIFF", "OME-TIFF, planes in strips", "TIFF in strips", "Aperio", "DICOM"]),
    level=st.integers(0, 2), left=st.integers(-300, 1100), top=st.integers(-300, 800), width=st.integers(1, 400),
    height=st.integers(1, 400),
)  # fmt: skip
def test_any_region_is_that_of_the_array(
    opened: dict[str, Slide],
    levels: list[Pixels],
    name: str,
    level: int,
    left: int,
    top: int,
    width: int,
    height: int,
) -> None:
    read = opened[name].read(level, left << level, top << level, width, height)
    np.testing.assert_array_equal(read, expected(levels[level], left, top, width, height))


@pytest.mark.parametrize("name", ["Aperio", "OME-TIFF", "DICOM"])
def test_between_two_pixels_of_a_level_the_nearest_is_the_first(
    opened: dict[str, Slide], levels: list[Pixels], name: str
) -> None:
    for left, first in ((400, 100), (401, 100), (402, 101), (403, 101)):
        np.testing.assert_array_equal(opened[name].read(2, left, 0, 20, 20), levels[2][:20, first : first + 20])


def test_two_different_sizes_of_a_pixel_are_both_told(tmp_path: Path, pixels: Pixels) -> None:
    mpp = (0.5, 0.25)
    made = [
        tiff_slide(tmp_path / "a.tif", pixels, mpp),
        ome_tiff_slide(tmp_path / "b.ome.tif", pixels, mpp),
        dicom_slide(tmp_path / "c", pixels, mpp),
    ]
    assert [closed(path).microns_per_pixel for path in made] == [pytest.approx(mpp)] * 3


def test_what_the_file_does_not_tell_is_none(tmp_path: Path, pixels: Pixels) -> None:
    for path in (tiff_slide(tmp_path / "a.tif", pixels, None), ome_tiff_slide(tmp_path / "b.ome.tif", pixels, None)):
        with open_slide(path) as slide:
            assert (slide.microns_per_pixel, slide.magnification) == (None, None)


def test_dots_per_inch_of_a_screen_are_no_microns_per_pixel(tmp_path: Path, pixels: Pixels) -> None:
    screen = 25400 / 72
    assert closed(tiff_slide(tmp_path / "a.tif", pixels, screen)).microns_per_pixel is None
    assert closed(aperio_slide(tmp_path / "b.svs", pixels, screen)).microns_per_pixel is None


def test_the_objective_is_told_where_it_is_written(tmp_path: Path, pixels: Pixels) -> None:
    made = [
        aperio_slide(tmp_path / "a.svs", pixels, magnification=20),
        ome_tiff_slide(tmp_path / "b.ome.tif", pixels, magnification=20),
        dicom_slide(tmp_path / "c", pixels, magnification=20),
    ]
    assert [closed(path).magnification for path in made] == [20, 20, 20]


def test_a_container_has_a_name(opened: dict[str, Slide]) -> None:
    names = {name: slide.container for name, slide in opened.items()}
    assert (names["Aperio"], names["DICOM"], names["OME-TIFF"]) == ("aperio", "DICOM", "OME-TIFF")
    assert names["tiled TIFF"] == names["TIFF in strips"] == "generic-tiff"


def test_the_bounds_of_the_scanned_part_are_told(
    tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openslide

    bounds = {"x": 64, "y": 32, "width": 800, "height": 600}

    class Bounded(openslide.OpenSlide):
        @property
        def properties(self) -> dict[str, str]:
            return {**super().properties, **{f"openslide.bounds-{key}": str(value) for key, value in bounds.items()}}

    monkeypatch.setattr(openslide, "OpenSlide", Bounded)
    assert closed(aperio_slide(tmp_path / "a.svs", pixels)).bounds == (64, 32, 800, 600)


def test_what_was_not_scanned_is_white(tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    import openslide
    from PIL import Image

    class Transparent(openslide.OpenSlide):
        def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
            region = super().read_region(location, level, size)
            region.paste((0, 0, 0, 0), (0, 0, 10, 10))
            return region

    monkeypatch.setattr(openslide, "OpenSlide", Transparent)
    with open_slide(aperio_slide(tmp_path / "a.svs", pixels)) as slide:
        read = slide.read(0, 300, 300, 20, 20)
    assert (read[:10, :10] == 255).all()
    np.testing.assert_array_equal(read[10:], pixels[310:320, 300:320])


def test_a_slide_of_one_pixel_can_be_read(tmp_path: Path, pixels: Pixels) -> None:
    with open_slide(tiff_slide(tmp_path / "one.tif", pixels[:1, :1], levels=1)) as slide:
        assert slide.picture(1600).shape == (1, 1, 3)
        np.testing.assert_array_equal(slide.read(0, 0, 0, 1, 1), pixels[:1, :1])
