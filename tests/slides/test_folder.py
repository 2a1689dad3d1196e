"""A folder of slides: every slide once, under its id; a DICOM series is one slide."""

from pathlib import Path

import pytest
from made_slides import Pixels, dicom_slide, ome_tiff_slide, tiff_slide
from pydicom import dcmread

from milbench.errors import DataError
from milbench.slides import SUFFIXES, find_slides, open_slide, slide_id_of


@pytest.fixture(scope="module")
def small(pixels: Pixels) -> Pixels:
    return pixels[:256, :256]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("nothing")
    return path


def test_an_id_is_the_name_without_the_whole_ending() -> None:
    names = {"S1.svs": "S1", "S.1.x.SVS": "S.1.x", "S1.ome.tif": "S1", "S1.OME.TIFF": "S1", "S1.home.tif": "S1.home",
             "1.2.840.10": "1.2.840.10"}  # fmt: skip
    assert {name: slide_id_of(Path(name)) for name in names} == names


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_ending_is_found_in_folders_below_and_in_capitals(tmp_path: Path, suffix: str) -> None:
    small, large = touch(tmp_path / "a" / f"S1{suffix}"), touch(tmp_path / "b" / "c" / f"S2{suffix.upper()}")
    assert find_slides(tmp_path) == {"S1": small, "S2": large}


def test_hidden_files_other_files_and_the_data_of_mrxs_are_no_slides(tmp_path: Path) -> None:
    for name in (".S1.svs", "._S1.svs", ".hidden/S2.svs", "notes.txt", "S3/Data0001.tif", "S3/Slidedat.ini", "S1.h5"):
        touch(tmp_path / name)
    assert find_slides(touch(tmp_path / "S3.mrxs").parent) == {"S3": tmp_path / "S3.mrxs"}


def test_a_file_is_a_folder_of_one(tmp_path: Path) -> None:
    assert find_slides(touch(tmp_path / "S1.ome.tif")) == {"S1": tmp_path / "S1.ome.tif"}


def test_no_folder_and_no_slides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_slides(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no slides. Expected files that end in .*\.svs"):
        find_slides(tmp_path)


def test_one_id_in_two_places_is_refused_with_both(tmp_path: Path) -> None:
    first, second = touch(tmp_path / "a" / "S1.svs"), touch(tmp_path / "b" / "S1.ome.tif")
    with pytest.raises(DataError, match="slide 'S1' lies in two places") as caught:
        find_slides(tmp_path)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_a_series_alone_in_a_folder_is_called_after_the_folder(tmp_path: Path, small: Pixels) -> None:
    for name in ("S1", "S2"):
        dicom_slide(tmp_path / name, small, label=True)
    largest = {name: tmp_path / name / "level_0.dcm" for name in ("S1", "S2")}
    assert find_slides(tmp_path) == largest
    assert find_slides(tmp_path / "S1") == {"S1": largest["S1"]}


def test_series_of_one_file_are_called_after_their_files(tmp_path: Path, small: Pixels) -> None:
    for name in ("S1", "S2"):
        dicom_slide(tmp_path, small, levels=1, container=name, prefix=f"{name}_")
    assert list(find_slides(tmp_path)) == ["S1_level_0", "S2_level_0"]


def test_series_that_share_a_folder_are_called_as_the_scanner_called_the_slides(tmp_path: Path, small: Pixels) -> None:
    for name in ("A", "B"):
        dicom_slide(tmp_path, small, container=name, prefix=name)
    assert find_slides(tmp_path) == {"A": tmp_path / "Alevel_0.dcm", "B": tmp_path / "Blevel_0.dcm"}


def test_dicom_files_without_an_ending_are_found(tmp_path: Path, small: Pixels) -> None:
    folder = dicom_slide(tmp_path / "S1", small)
    for level in range(3):
        (folder / f"level_{level}.dcm").rename(folder / f"1.2.840.{level}")
    assert find_slides(tmp_path) == {"S1": folder / "1.2.840.0"}
    with open_slide(folder) as slide:
        assert len(slide.levels) == 3


def test_a_label_alone_and_dicom_of_another_kind_are_no_slides(tmp_path: Path, small: Pixels) -> None:
    import pydicom

    tiff_slide(tmp_path / "S1.tif", small)
    folder = dicom_slide(tmp_path / "label", small, label=True, levels=1)
    (folder / "level_0.dcm").unlink()
    folder = dicom_slide(tmp_path / "scan", small, levels=1)
    other = pydicom.dcmread(folder / "level_0.dcm")
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    other.save_as(folder / "level_0.dcm")
    assert list(find_slides(tmp_path)) == ["S1"]


def test_a_damaged_dicom_file_is_kept_so_that_opening_says_so(tmp_path: Path, small: Pixels) -> None:
    dicom_slide(tmp_path, small, levels=1)
    (tmp_path / "a.dcm").write_bytes(b"")
    (tmp_path / "b.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 100)
    found = find_slides(tmp_path)
    assert set(found) == {"a", "b", "level_0"}
    for name in "ab":
        with pytest.raises(DataError, match="cannot be read as a slide"):
            open_slide(found[name])


def test_links_are_followed_and_circles_end(tmp_path: Path, small: Pixels) -> None:
    there = tmp_path / "there"
    there.mkdir()
    ome_tiff_slide(there / "S1.ome.tif", small)
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "link").symlink_to(there)
    (there / "back").symlink_to(tmp_path / "slides")
    (tmp_path / "slides" / "broken.svs").symlink_to(tmp_path / "nowhere")
    found = find_slides(tmp_path / "slides")
    assert set(found) == {"S1", "broken"}
    with pytest.raises(DataError, match=r"broken\.svs cannot be opened"):
        open_slide(found["broken"])


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "S1.svs")

    def denied(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(DataError, match="cannot be looked through: Permission denied"):
        find_slides(tmp_path)


@pytest.mark.parametrize("container", ["S21/123", "../../S1", ".S1", "S\n1"])
def test_a_scanners_name_that_no_file_can_have_gives_way_to_the_uid(
    tmp_path: Path, small: Pixels, container: str
) -> None:
    for name, called in (("A", container), ("B", "plain")):
        dicom_slide(tmp_path, small, levels=2, container=called, prefix=name)
    uid = str(dcmread(tmp_path / "Alevel_0.dcm", specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)
    assert set(find_slides(tmp_path)) == {uid, "plain"}
