"""The content of a file is read once, and again whenever the file system says that it may be another."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from zarr_stores import write_array, write_wsidata

from milbench.cohorts import content
from milbench.cohorts.content import SlideContent, changed_slides, content_sha256, contents
from milbench.errors import FeatureFileError
from milbench.store.files import file_sha256

OLD = 1_600_000_000_000_000_000


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Three files of 200 kB, so that their ends do not tell all, written long ago."""
    found = {}
    for number, slide in enumerate(("s1", "s2", "s3")):
        found[slide] = tmp_path / f"{slide}.npy"
        np.save(found[slide], np.full(25_000, float(number)))
        os.utime(found[slide], ns=(OLD, OLD))
    return found


def edit_middle(path: Path, *, keep_time: bool = False) -> None:
    with path.open("r+b") as file:
        file.seek(100_000)
        file.write(b"edited!!")
    os.utime(path, ns=(OLD, OLD if keep_time else OLD + 1))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed."""
    names: list[str] = []

    def noted(path: Path) -> str:
        names.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(content, "file_sha256", noted)
    return names


def test_only_files_that_may_have_changed_are_read_again(files: dict[str, Path], read: list[str]) -> None:
    first = contents(files, {})
    assert sorted(read) == ["s1.npy", "s2.npy", "s3.npy"]
    assert contents(files, first) == first
    edit_middle(files["s2"])
    second = contents(files, first)
    assert read[3:] == ["s2.npy"]
    assert changed_slides(first, second) == ["s2"]
    assert content_sha256(first, files) != content_sha256(second, files)


@pytest.mark.parametrize("change", ["size", "time", "inode", "path"])
def test_each_part_of_a_files_state_counts(
    files: dict[str, Path], read: list[str], change: str, tmp_path: Path
) -> None:
    first = contents(files, {})
    path = files["s1"]
    if change == "size":
        path.write_bytes(path.read_bytes() + b"x")
        os.utime(path, ns=(OLD, OLD))
    elif change == "time":
        os.utime(path, ns=(OLD, OLD + 1))
    elif change == "inode":
        copy = tmp_path / "copy"
        copy.write_bytes(path.read_bytes())
        os.utime(copy, ns=(OLD, OLD))
        copy.replace(path)
    else:
        files["s1"] = path.rename(tmp_path / "renamed.npy")
    del read[:]
    second = contents(files, first)
    assert read == [files["s1"].name]
    assert (second["s1"].sha256 == first["s1"].sha256) == (change != "size")


def test_an_edit_that_keeps_size_and_time_is_seen_when_asked_to_read_all(files: dict[str, Path]) -> None:
    first = contents(files, {})
    edit_middle(files["s3"], keep_time=True)
    assert contents(files, first) == first
    assert changed_slides(first, contents(files, {})) == ["s3"]


def test_another_machine_that_sees_a_file_of_equal_size_and_time_elsewhere_does_not_read_it(
    files: dict[str, Path], read: list[str], tmp_path: Path
) -> None:
    first = contents(files, {})
    moved = {slide: path.rename(tmp_path / f"moved-{slide}") for slide, path in files.items()}
    del read[:]
    assert contents(moved, first, on_any_machine=True) == first
    assert read == []
    edit_middle(moved["s1"])
    assert changed_slides(first, contents(moved, first, on_any_machine=True)) == ["s1"]


def test_a_file_that_was_written_just_now_is_read_again_next_time(tmp_path: Path, read: list[str]) -> None:
    path = tmp_path / "young.npy"
    np.save(path, np.ones(3))
    first = contents({"young": path}, {})
    assert first["young"].files == ()
    contents({"young": path}, first)
    assert read == ["young.npy"] * 2


def test_a_file_that_changes_while_it_is_read_is_refused(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_to(path: Path) -> str:
        edit_middle(path)
        return file_sha256(path)

    monkeypatch.setattr(content, "file_sha256", written_to)
    with pytest.raises(
        FeatureFileError, match=r"s1\.npy changes while it is read. Wait until the extraction has ended"
    ):
        contents({"s1": files["s1"]}, {})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The table of a wsidata store, whose files were written long ago."""
    features = np.random.default_rng(0).standard_normal((4, 3))
    write_wsidata(tmp_path / "a.zarr", features, np.arange(8).reshape(4, 2) * 256)
    age(tmp_path)
    return tmp_path / "a.zarr" / "tables" / "uni_tiles"


def age(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, ns=(OLD, OLD))


def test_a_store_is_read_again_if_one_of_its_files_is_another_and_not_if_another_table_joins(
    store: Path, read: list[str]
) -> None:
    first = contents({"a": store}, {})
    n_files = len(read)
    write_array(store.parent / "conch_tiles" / "X", np.ones((4, 2)))
    assert contents({"a": store}, first) == first
    assert contents({"a": store}, first, on_any_machine=True) == first
    assert len(read) == n_files
    chunk = store / "X/c/0/0"
    chunk.write_bytes(bytes(reversed(chunk.read_bytes())))
    assert changed_slides(first, contents({"a": store}, first)) == ["a"]
    assert changed_slides(first, contents({"a": store}, first, on_any_machine=True)) == ["a"]
    assert len(read) == 3 * n_files


def test_a_store_elsewhere_has_the_same_content_and_chunks_that_change_places_have_not(
    store: Path, tmp_path: Path
) -> None:
    write_array(store / "X", np.random.default_rng(1).standard_normal((4, 3)), chunks=(2, 3))
    first = contents({"a": store}, {})
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "there" / "b.zarr")
    moved = tmp_path / "there/b.zarr/tables/uni_tiles"
    assert contents({"a": moved}, {})["a"].sha256 == first["a"].sha256
    one, other = moved / "X/c/0/0", moved / "X/c/1/0"
    one.rename(tmp_path / "kept")
    other.rename(one)
    (tmp_path / "kept").rename(other)
    assert contents({"a": moved}, {})["a"].sha256 != first["a"].sha256


def test_a_file_that_joins_a_store_is_noticed(store: Path) -> None:
    first = contents({"a": store}, {})
    (store / "X/c/0/1").write_bytes(b"more")
    assert changed_slides(first, contents({"a": store}, first)) == ["a"]


def test_a_pipe_and_a_missing_file_are_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(FeatureFileError, match=r"pipe\.npy is a named pipe, not a file, and was not opened"):
        contents({"s": tmp_path / "pipe.npy"}, {})
    with pytest.raises(FeatureFileError, match=r"gone\.npy cannot be read: No such file"):
        contents({"s": tmp_path / "gone.npy"}, {"s": SlideContent((), "0" * 64)})


@pytest.mark.parametrize("kind", ["external link", "virtual dataset"])
def test_an_edit_behind_a_link_is_seen(tmp_path: Path, kind: str) -> None:
    source, path = tmp_path / "source.h5", tmp_path / "slide.h5"
    with h5py.File(source, "w") as file:
        file["values"] = np.ones((4, 3), np.float32)
    with h5py.File(path, "w") as file:
        if kind == "external link":
            file["features"] = h5py.ExternalLink("source.h5", "/values")
        else:
            layout = h5py.VirtualLayout((4, 3), np.float32)
            layout[:] = h5py.VirtualSource("source.h5", "values", (4, 3))
            file.create_virtual_dataset("features", layout)
    for each in (source, path):
        os.utime(each, ns=(OLD, OLD))
    first = contents({"slide": path}, {})
    assert [Path(state.path).name for state in first["slide"].files] == ["slide.h5", "source.h5"]
    assert contents({"slide": path}, first) == first
    with h5py.File(source, "a") as file:
        file["values"][2, 1] = 7
    assert changed_slides(first, contents({"slide": path}, first)) == ["slide"]
