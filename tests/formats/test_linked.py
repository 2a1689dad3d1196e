"""Values behind links are followed to files that are there; dead ends are refused by name before HDF5 meets them."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from milbench.errors import FeatureFileError
from milbench.formats import open_features
from milbench.formats.linked import files_of

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def write_source(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["values"] = VALUES


def write_virtual(path: Path, source: str, name: str = "values", called: str = "features") -> None:
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((4, 3), np.float32)
        layout[:] = h5py.VirtualSource(source, name, (4, 3))
        file.create_virtual_dataset(called, layout)


def write_link(path: Path, target: str) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink(target, "/values")


@pytest.mark.parametrize("kind", ["external", "virtual", "a link to a virtual dataset"])
def test_values_behind_links_are_read_and_all_files_told(tmp_path: Path, kind: str) -> None:
    (tmp_path / "sources").mkdir()
    folder = tmp_path / "features"
    folder.mkdir()
    write_source(tmp_path / "sources" / "source.h5")
    path, expected = folder / "a.h5", ["a.h5", "source.h5"]
    if kind == "external":
        write_link(path, "../sources/source.h5")
    elif kind == "virtual":
        write_virtual(path, "../sources/source.h5")
    else:
        write_virtual(tmp_path / "sources" / "middle.h5", "source.h5", called="values")
        write_link(path, "../sources/middle.h5")
        expected = ["a.h5", "middle.h5", "source.h5"]
    reader = open_features(folder)
    assert reader.header("a")[:2] == (4, 3)
    np.testing.assert_array_equal(reader.load("a").features.numpy(), VALUES)
    assert [each.name for each in files_of(path)] == expected


def test_a_file_without_links_stands_for_itself(tmp_path: Path) -> None:
    write_source(tmp_path / "a.h5")
    np.save(tmp_path / "b.npy", VALUES)
    assert files_of(tmp_path / "a.h5") == (tmp_path / "a.h5",)
    assert files_of(tmp_path / "b.npy") == (tmp_path / "b.npy",)


def test_virtual_values_without_source_are_refused_and_not_read_as_zeros(tmp_path: Path) -> None:
    write_virtual(tmp_path / "a.h5", "gone.h5")
    with pytest.raises(
        FeatureFileError, match=r"a\.h5: 'features' is a virtual dataset of 'values' in .*gone\.h5, which is not"
    ):
        open_features(tmp_path).load("a")
    with h5py.File(tmp_path / "gone.h5", "w") as file:
        file["others"] = VALUES
    with pytest.raises(FeatureFileError, match="which is not there"):
        open_features(tmp_path).header("a")


def test_a_virtual_dataset_whose_sources_cover_a_part_of_it_is_refused(tmp_path: Path) -> None:
    write_source(tmp_path / "source.hdf")
    layout = h5py.VirtualLayout((4, 3), np.float32)
    layout[:2] = h5py.VirtualSource("source.hdf", "values", (4, 3))[:2]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("features", layout)
    with pytest.raises(
        FeatureFileError, match=r"'features': 6 of its 12 values have a source, and HDF5 would read zeros"
    ):
        open_features(tmp_path).header("a")


def test_a_virtual_dataset_that_grows_with_its_source_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "source.hdf", "w") as file:
        file.create_dataset("values", data=VALUES, maxshape=(None, 3))
    layout = h5py.VirtualLayout((4, 3), np.float32, maxshape=(None, 3))
    source = h5py.VirtualSource("source.hdf", "values", (4, 3), maxshape=(None, 3))
    layout[: h5py.h5s.UNLIMITED, :] = source[: h5py.h5s.UNLIMITED, :]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("features", layout)
    assert np.array_equal(open_features(tmp_path).load("a").features, VALUES)


@pytest.mark.parametrize(
    ("chunks", "rows"), [((2, 3), 2), ((2, 3), 0), (None, 0)], ids=["a part", "none", "in one piece"]
)
def test_values_that_were_never_written_are_no_zeros(tmp_path: Path, chunks: tuple[int, int] | None, rows: int) -> None:
    """An extraction that was killed leaves the whole shape behind, and HDF5 fills what is missing."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        features = file.create_dataset("features", (4, 3), np.float32, chunks=chunks)
        if rows:
            features[:rows] = VALUES[:rows]
    for use in (open_features(tmp_path).header, open_features(tmp_path).load):
        with pytest.raises(FeatureFileError, match=r"'features': .* written, and HDF5 would read zeros there"):
            use("a")


def test_coordinates_that_were_never_written_stop_no_training(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = VALUES
        file.create_dataset("coords", (4, 2), np.int64, chunks=(2, 2))
    slide = open_features(tmp_path).load("a")
    assert slide.coords is None
    assert "'coords': 0 of its 2 chunks were written" in slide.coords_problem
    assert slide.coords_problem == open_features(tmp_path).header("a").coords_problem


def test_a_link_to_a_folder_is_told_without_the_librarys_words(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    write_link(tmp_path / "a.h5", str(tmp_path / "deep"))
    with pytest.raises(FeatureFileError, match=r"a\.h5 leads to another file\. .*deep is a folder, not a file"):
        open_features(tmp_path).load("a")


def test_a_virtual_dataset_of_itself_is_refused(tmp_path: Path) -> None:
    write_virtual(tmp_path / "a.h5", ".", "features")
    with pytest.raises(FeatureFileError, match=r"a\.h5: 'features' is a virtual dataset of itself"):
        open_features(tmp_path).load("a")


def test_external_storage_is_refused_and_says_how_to_be_rid_of_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", (4, 3), np.float32, external=[(str(tmp_path / "raw.bin"), 0, 48)])[:] = VALUES
    with pytest.raises(
        FeatureFileError, match=r"a\.h5: 'features' keeps its values in .*raw\.bin.*h5repack a\.h5 OUT\.h5"
    ):
        open_features(tmp_path).header("a")


def test_a_link_to_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    os.mkfifo(tmp_path / "pipe")
    write_link(tmp_path / "middle.h5", "pipe")
    write_link(folder / "a.h5", "../middle.h5")
    with pytest.raises(FeatureFileError, match="pipe is a named pipe, not a file, and was not opened"):
        open_features(folder).load("a")


def test_a_link_to_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    write_link(tmp_path / "a.h5", "gone.h5")
    with pytest.raises(FeatureFileError, match=r"a\.h5 is no readable HDF5 file"):
        open_features(tmp_path).header("a")
