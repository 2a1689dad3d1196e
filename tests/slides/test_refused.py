"""What is no slide, or a damaged, incomplete or foreign one, is refused by a message that names it and says what to do."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from made_slides import Pixels, aperio_slide, dicom_slide, ome_tiff_slide, tiff_slide, tile_options
from PIL import Image

from milbench.errors import DataError, UsageError
from milbench.slides import Slide, open_slide, tiff_images


def refusal(path: Path, error: type[Exception] = DataError) -> str:
    """What opening and reading the whole slide says."""
    with pytest.raises(error) as caught, open_slide(path) as slide:
        slide.read(0, 0, 0, slide.levels[0].width, slide.levels[0].height)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_path_where_nothing_is_and_a_name_that_cannot_be_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere.svs")
    assert "null byte" in refusal(tmp_path / "a\0b.svs")
    assert "too long" in refusal(tmp_path / ("a" * 300 + ".svs"))


def test_a_slide_that_may_not_be_read_is_refused(
    tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tiff_slide(tmp_path / "S1.tif", pixels)
    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied. Check the path and its rights" in refusal(path)


def test_files_that_are_no_slide_are_called_what_they_are(tmp_path: Path, pixels: Pixels) -> None:
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "text.svs").write_text("no slide")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "a.mrxs", "JPEG")
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 100)
    os.mkfifo(tmp_path / "pipe.svs")
    (tmp_path / "x.tif").mkdir()
    assert "it is empty (0 bytes)" in refusal(tmp_path / "empty.svs")
    assert "no container that OpenSlide or tifffile knows" in refusal(tmp_path / "text.svs")
    assert "a PNG picture, which has no levels" in refusal(tmp_path / "a.png")
    assert "Put the folder a with Slidedat.ini beside it" in refusal(tmp_path / "a.mrxs")
    assert "damaged or no VL Whole Slide Microscopy image" in refusal(tmp_path / "a.dcm")
    assert "is a named pipe" in refusal(tmp_path / "pipe.svs")
    assert "is a folder without a DICOM slide" in refusal(tmp_path / "x.tif")


def test_a_dicom_series_without_its_largest_file_is_refused(tmp_path: Path, pixels: Pixels) -> None:
    folder = dicom_slide(tmp_path / "S1", pixels)
    (folder / "level_0.dcm").unlink()
    message = "series is incomplete. The largest file is 500 × 350 pixels and says that it was made from a larger one"
    assert message in refusal(folder)
    assert message in refusal(folder / "level_2.dcm")


def test_pixels_too_large_for_the_objective_give_an_incomplete_series_away(tmp_path: Path, pixels: Pixels) -> None:
    folder = dicom_slide(tmp_path / "S1", pixels, 1.0, magnification=20)
    assert "series is incomplete. The largest file is 1000 × 700 pixels and has 1" in refusal(folder)


def test_a_dicom_folder_must_hold_one_slide(tmp_path: Path, pixels: Pixels) -> None:
    dicom_slide(tmp_path / "two", pixels, container="A", prefix="a_")
    dicom_slide(tmp_path / "two", pixels, container="B", prefix="b_")
    assert "holds 2 DICOM slides" in refusal(tmp_path / "two")
    assert "a_level_0.dcm, b_level_0.dcm" in refusal(tmp_path / "two")
    with open_slide(tmp_path / "two" / "b_level_1.dcm") as slide:
        assert slide.levels[0][:2] == (1000, 700)


def test_a_label_without_its_slide_is_no_slide(tmp_path: Path, pixels: Pixels) -> None:
    folder = dicom_slide(tmp_path / "S1", pixels, label=True)
    for level in folder.glob("level_*"):
        level.unlink()
    assert "without a DICOM slide" in refusal(folder)
    assert "No pyramid levels found" in refusal(folder / "a_label.dcm")


MADE: dict[str, Callable[[Path, Pixels], Path]] = {
    "generic": lambda folder, pixels: tiff_slide(folder / "a.tif", pixels),
    "BigTIFF": lambda folder, pixels: tiff_slide(folder / "b.tif", pixels, bigtiff=True),
    "Aperio": lambda folder, pixels: aperio_slide(folder / "c.svs", pixels),
    "OME": lambda folder, pixels: ome_tiff_slide(folder / "d.ome.tif", pixels),
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("part", [0.0001, 0.0005, 0.01, 0.5, 0.8, 0.9999])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, pixels: Pixels, kind: str, part: float) -> None:
    path = MADE[kind](tmp_path, pixels)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    refusal(path)


def test_a_dicom_file_that_ends_early_is_refused_and_the_slide_is_dead(tmp_path: Path, pixels: Pixels) -> None:
    folder = dicom_slide(tmp_path / "S1", pixels)
    file = folder / "level_0.dcm"
    file.write_bytes(file.read_bytes()[:-300_000])
    with open_slide(folder) as slide:
        slide.read(0, 0, 0, 200, 200)
        says_why_and_stays_dead(slide)


@pytest.mark.parametrize("kind", MADE)
def test_a_damaged_tile_is_an_error_that_names_the_file_and_the_slide_is_dead(
    tmp_path: Path, pixels: Pixels, kind: str
) -> None:
    path = MADE[kind](tmp_path, pixels)
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[9], file.pages[0].databytecounts[9]
    with path.open("r+b") as file:
        file.seek(offset + count // 3)
        file.write(bytes(range(200)))
    with open_slide(path) as slide:
        slide.read(0, 0, 0, 200, 200)
        says_why_and_stays_dead(slide)


def test_a_changed_byte_in_the_head_leaves_a_slide_or_a_clear_error(tmp_path: Path, pixels: Pixels) -> None:
    path = ome_tiff_slide(tmp_path / "S1.ome.tif", pixels[:300, :300], levels=1)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    messages = []
    for place in range(4, 240, 3):
        path.write_bytes(whole[:place] + rng.bytes(1) + whole[place + 1 :])
        try:
            with open_slide(path) as slide:
                slide.read(0, 0, 0, 200, 200)
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all(str(path) in message for message in messages)


def says_why_and_stays_dead(slide: Slide) -> None:
    with pytest.raises(DataError, match="cannot be read: 1000 × 700 pixels of level 0 at") as caught:
        slide.read(0, 0, 0, 1000, 700)
    assert str(slide.path) in str(caught.value)
    for read in (lambda: slide.read(0, 0, 0, 200, 200), lambda: slide.picture(100)):
        with pytest.raises(DataError, match="Nothing more is read from it"):
            read()


def test_a_slide_that_is_gone_or_closed_says_so(tmp_path: Path, pixels: Pixels) -> None:
    path = aperio_slide(tmp_path / "S1.svs", pixels)
    with open_slide(path) as slide:
        path.unlink()
        with pytest.raises(DataError, match="is not there any more"):
            slide.read(0, 0, 0, 1000, 700)
    with open_slide(tiff_slide(tmp_path / "S2.tif", pixels)) as slide:
        pass
    with pytest.raises(DataError, match=r"S2\.tif was closed"):
        slide.read(0, 0, 0, 10, 10)


def test_a_codec_that_nothing_decodes_is_named(tmp_path: Path, pixels: Pixels) -> None:
    path = tiff_slide(tmp_path / "S1.tif", pixels)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(32809)
    assert "its codec THUNDERSCAN (32809) is not one that can be decoded. Write it with JPEG, deflate" in refusal(path)


def written(path: Path, *images: Any, **options: Any) -> Path:
    with tifffile.TiffWriter(path) as file:
        for image in images:
            file.write(image, metadata=None, compression="zlib", **tile_options(), **options)
    return path


def test_what_is_no_8_bit_rgb_is_refused(tmp_path: Path, pixels: Pixels) -> None:
    five = np.moveaxis(np.dstack([pixels, pixels[..., :2]]), 2, 0)
    gray = {"photometric": "minisblack"}
    assert "has 5 channel(s)" in refusal(written(tmp_path / "a.tif", five, planarconfig="separate", **gray))
    assert "has 1 channel(s)" in refusal(written(tmp_path / "b.tif", pixels[..., 0], **gray))
    assert "has 16 bits" in refusal(written(tmp_path / "c.tif", pixels.astype(np.uint16), photometric="rgb"))
    assert "3 channels or planes" in refusal(written(tmp_path / "d.tif", *np.moveaxis(pixels, 2, 0), **gray))
    assert "its colours are CIELAB" in refusal(written(tmp_path / "e.tif", pixels, photometric="cielab"))


def test_jpeg_2000_of_aperio_in_a_file_that_no_longer_says_so_is_refused_if_it_holds_ycbcr(tmp_path: Path) -> None:
    tile = imagecodecs.jpeg2k_encode(
        np.full((256, 256, 3), (245, 128, 128), np.uint8), level=0, codecformat="j2k", mct=False
    )
    options = {"shape": (512, 512, 3), "dtype": "uint8", "tile": (256, 256), "photometric": "rgb", "metadata": None}
    for number in (33003, 33005):
        tifffile.imwrite(tmp_path / f"{number}.tif", iter([tile] * 4), compression=number, **options)
    assert "its colours are YCbCr in APERIO_JP2000_YCBC (33003), not RGB" in refusal(tmp_path / "33003.tif")
    with open_slide(tmp_path / "33005.tif") as slide:
        assert (slide.read(0, 0, 0, 512, 512) == (245, 128, 128)).all()


def test_two_planes_or_two_slides_in_a_file_are_refused(
    tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "2 planes of 1000 × 700" in refusal(written(tmp_path / "a.tif", pixels, pixels, photometric="rgb"))
    two = written(tmp_path / "b.tif", pixels, pixels[:500, :500], photometric="rgb")
    with open_slide(two) as slide:
        assert slide.levels == ((1000, 700, 1.0),)
    monkeypatch.setattr(tiff_images, "SECOND_SLIDE_PIXELS", 250_000)
    assert "holds two slides, of 1000 × 700 and 500 × 500 pixels" in refusal(two)


def test_a_file_whose_writing_was_broken_off_is_refused(tmp_path: Path) -> None:
    empty = written(tmp_path / "a.tif", iter([b""] * 4), shape=(512, 512, 3), dtype="uint8", photometric="rgb")
    assert "all of its tiles are empty" in refusal(empty)


def test_a_file_that_is_stored_upside_down_is_refused(tmp_path: Path, pixels: Pixels) -> None:
    turned = written(tmp_path / "a.tif", pixels, photometric="rgb", extratags=[(274, 3, 1, 3, True)])
    assert "stored turned or mirrored" in refusal(turned)


def test_a_level_that_is_not_there_is_an_error(tmp_path: Path, pixels: Pixels) -> None:
    for made in (tiff_slide(tmp_path / "a.tif", pixels), aperio_slide(tmp_path / "b.svs", pixels)):
        with open_slide(made) as slide:
            for level in (-1, 3):
                with pytest.raises(IndexError):
                    slide.read(level, 0, 0, 10, 10)


def test_transparent_pixels_are_laid_on_white(tmp_path: Path, pixels: Pixels) -> None:
    alpha = np.full((700, 1000, 1), 255, np.uint8)
    alpha[:300] = 0
    path = written(tmp_path / "a.tif", np.dstack([pixels, alpha]), photometric="rgb", extrasamples=["unassalpha"])
    with open_slide(path) as slide:
        read = slide.read(0, 0, 0, 1000, 700)
    assert (read[:300] == 255).all()
    np.testing.assert_array_equal(read[300:], pixels[300:])


def test_a_strip_too_large_for_memory_is_refused(
    tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff_images, "MOST_SEGMENT_BYTES", 64 * 1000 * 3 - 1)
    assert "pieces of 0.0 GB that cannot be read in part" in refusal(
        tiff_slide(tmp_path / "S1.tif", pixels, tiled=False)
    )


@pytest.mark.parametrize("package", ["openslide", "tifffile", "imagecodecs", "pydicom"])
def test_without_a_package_the_extra_is_named(
    tmp_path: Path, pixels: Pixels, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dicom_slide(tmp_path / "S1", pixels) if package == "pydicom" else tiff_slide(tmp_path / "S1.tif", pixels)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(UsageError, match=r"pip install 'milbench\[wsi\]'"):
        open_slide(path)
