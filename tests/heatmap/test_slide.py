"""Over the slide: level-0 coordinates land on their own pixels of a pyramidal tiled TIFF with known marks."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_slides import aperio_slide, dicom_slide, ome_tiff_slide

from milbench.errors import DataError, UsageError
from milbench.heatmap.canvas import grid_over, paint
from milbench.heatmap.places import Places
from milbench.heatmap.slide import find_slide, read_slide
from milbench.slides import picture as picture_module

WIDTH, HEIGHT, PATCH = 3072, 2048, 128
MARKS = np.array([[0, 0], [1280, 640], [2944, 1920], [128, 1792]])
"""Top-left corners of black patches on a light slide, two of them in its corners."""


def write_slide(path: Path, *, width: int = WIDTH, height: int = HEIGHT, levels: int = 3) -> Path:
    """An 8-bit RGB TIFF, tiled, every level half of the one before, marked at `MARKS`; 0.25 µm a pixel."""
    pixels = np.full((height, width, 3), (240, 220, 230), np.uint8)
    for x, y in MARKS:
        pixels[y : y + PATCH, x : x + PATCH] = 0
    resolution = {"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            shrunk = pixels[:: 2**level, :: 2**level]
            file.write(shrunk, tile=(256, 256), photometric="rgb", compression="zlib",
                       subfiletype=int(level > 0), **({"resolution": (40000 / 2**level,) * 2, "resolutionunit": "CENTIMETER"} if level else resolution))  # fmt: skip
    return path


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "S1.tiff")


def marked(size: float = PATCH) -> Places:
    return Places(MARKS.astype(float), size)


@pytest.mark.parametrize("most_pixels", [3072, 1536, 768, 384, 192])
def test_a_patch_covers_exactly_the_pixels_of_its_mark(slide: Path, most_pixels: int) -> None:
    picture = read_slide(slide, marked(), most_pixels)
    rows, columns = picture.pixels.shape[:2]
    assert (columns, rows) == (most_pixels, most_pixels * HEIGHT // WIDTH)
    dark = picture.pixels.max(axis=2) < 60
    canvas = paint(marked(), np.ones(len(MARKS)), grid_over(picture.width, picture.height, columns, rows))
    np.testing.assert_array_equal(dark, ~np.isnan(canvas.pixels))


@pytest.mark.parametrize("most_pixels", [1000, 611, 333])
def test_where_pixels_cross_edges_a_mark_is_off_by_less_than_one(slide: Path, most_pixels: int) -> None:
    picture = read_slide(slide, marked(), most_pixels)
    rows, columns = picture.pixels.shape[:2]
    dark = picture.pixels.max(axis=2) < 120  # more than half of the pixel lies on the mark
    x_step, y_step = picture.width / columns, picture.height / rows
    for x, y in MARKS:
        middle = dark[int((y + PATCH / 2) / y_step), :], dark[:, int((x + PATCH / 2) / x_step)]
        for along, begin, step in ((middle[0], x, x_step), (middle[1], y, y_step)):
            near = [i for i in np.flatnonzero(along) if begin - step <= i * step <= begin + PATCH + step]
            assert abs(near[0] * step - begin) <= step
            assert abs((near[-1] + 1) * step - (begin + PATCH)) <= step


def test_a_slide_read_in_strips_equals_one_read_at_once(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_slide(slide, marked(), 500).pixels
    monkeypatch.setattr(picture_module, "STRIP_PIXELS", 20_000)
    strips = read_slide(slide, marked(), 500).pixels
    assert np.abs(whole.astype(int) - strips.astype(int)).max() <= 1


def test_a_slide_without_small_levels_can_be_read(tmp_path: Path) -> None:
    picture = read_slide(write_slide(tmp_path / "flat.tiff", levels=1), marked(), 768)
    assert (picture.pixels[160:192, 320:352] == 0).all()


def test_a_slide_tells_the_bounds_to_which_viewers_crop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openslide

    slide = aperio_slide(tmp_path / "S1.svs", np.full((HEIGHT, WIDTH, 3), 240, np.uint8))

    class Bounded(openslide.OpenSlide):
        @property
        def properties(self) -> dict[str, str]:
            return {**super().properties, "openslide.bounds-x": "640", "openslide.bounds-y": "128"}

    assert read_slide(slide, marked()).bounds == (0, 0)
    monkeypatch.setattr(openslide, "OpenSlide", Bounded)
    assert read_slide(slide, marked()).bounds == (640, 128)


def test_the_slide_tells_its_micrometres_a_pixel(slide: Path) -> None:
    assert read_slide(slide, marked()).microns_per_pixel == pytest.approx(0.25)


def test_a_slide_of_another_size_is_refused(tmp_path: Path) -> None:
    small = write_slide(tmp_path / "small.tiff", width=3072, height=1024 + 256)
    with pytest.raises(DataError, match=r"3072 × 1280 level-0 pixels, but patches begin from.*\(2944, 1920\)"):
        read_slide(small, marked())


def test_coordinates_in_another_unit_are_refused(slide: Path) -> None:
    with pytest.raises(DataError, match="coordinates are in 'µm'"):
        read_slide(slide, Places(MARKS.astype(float), PATCH, "µm"))


def test_a_patch_may_stick_out_of_the_slide(slide: Path) -> None:
    read_slide(slide, Places(np.array([[-100.0, 0.0], [3000.0, 2000.0]]), PATCH))


def test_a_file_that_is_no_slide_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(DataError, match="cannot be read as a slide"):
        read_slide(tmp_path / "text.svs", marked())


def test_a_slide_is_found_by_its_id_in_a_folder(slide: Path) -> None:
    assert find_slide(slide.parent, "S1") == slide
    assert find_slide(slide, "whatever") == slide


def test_ome_tiff_dicom_and_folders_are_found_by_the_slides_id(tmp_path: Path) -> None:
    light = np.full((256, 256, 3), 240, np.uint8)
    ome = ome_tiff_slide(tmp_path / "S1.ome.tif", light, levels=1)
    series = dicom_slide(tmp_path / "S2", light, levels=2)
    (tmp_path / "S3").mkdir()
    inside = ome_tiff_slide(tmp_path / "S3" / "scan.ome.tif", light, levels=1)
    found = [find_slide(tmp_path, slide) for slide in ("S1", "S2", "S3")]
    assert found == [ome, series / "level_0.dcm", inside]
    places = Places(np.array([[0.0, 0.0]]), 128)
    assert {read_slide(path, places).pixels.shape for path in (*found, series)} == {(256, 256, 3)}


def test_a_slide_that_lies_in_a_folder_twice_is_refused(tmp_path: Path) -> None:
    for name in ("S1.svs", "S1.tif"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"holds slide 'S1' twice: .*S1\.svs and .*S1\.tif"):
        find_slide(tmp_path, "S1")


def test_a_folder_without_the_slide_and_a_path_that_is_not_there_are_named(slide: Path) -> None:
    with pytest.raises(UsageError, match="holds no slide called 'S2'"):
        find_slide(slide.parent, "S2")
    with pytest.raises(UsageError, match="does not exist"):
        find_slide(slide.parent / "nowhere", "S1")


def test_without_openslide_the_extra_is_named(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openslide", None)
    with pytest.raises(UsageError, match=r"pip install 'milbench\[wsi\]'"):
        read_slide(slide, marked())
