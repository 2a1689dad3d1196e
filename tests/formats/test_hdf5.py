"""HDF5 files that others hold open, left half written or only declare."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from folders_for_tests import write_h5

from milbench.errors import FeatureFileError
from milbench.formats import open_features

HOLD = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
DIE = "import h5py, os, sys; f = h5py.File(sys.argv[1], 'a', libver='latest'); f.flush(); os._exit(0)"


def test_a_file_that_another_program_writes_is_called_locked(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", np.ones((2, 3), np.float32))
    reader = open_features(tmp_path)
    words = [sys.executable, "-c", HOLD, str(tmp_path / "a.h5")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(FeatureFileError, match=r"a\.h5 is locked.*Wait until.*HDF5_USE_FILE_LOCKING=FALSE"):
            reader.load("a")
        writer.communicate("")
    assert reader.load("a").features.shape == (2, 3)


def test_a_file_whose_writer_died_is_not_called_locked(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIE, str(tmp_path / "a.h5")], check=True)
    with pytest.raises(FeatureFileError, match=r"a\.h5 was never closed by the program that wrote it"):
        open_features(tmp_path).load("a")


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_small_file_that_declares_billions_of_patches_is_refused_unread(
    tmp_path: Path, compression: str | None
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", (2_000_000_000, 8), "f4", chunks=(1000, 8), compression=compression)
    for use in (open_features(tmp_path).header, open_features(tmp_path).load):
        with pytest.raises(
            FeatureFileError,
            match=r"a\.h5: 'features': 0 of its \d+ chunks were written, and HDF5 would read zeros there",
        ):
            use("a")


def test_compressed_features_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", data=np.zeros((5000, 64), np.float32), compression="gzip")
    assert open_features(tmp_path).load("a").features.shape == (5000, 64)


def test_an_odd_attribute_costs_no_slide(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", np.ones((2, 3), np.float32), np.array([[0, 0], [256, 0]]))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["features"].attrs["encoder"] = np.bytes_(b"\xff uni")
        file["coords"].attrs.update({"patch_size_level0": -256, "target_magnification": float("inf")})
    header = open_features(tmp_path).header("a")
    assert (header.encoder, header.patch_size, header.magnification) == ("\ufffd uni", None, None)


@pytest.mark.parametrize("edge", [0, -1, 2.0**33, np.nan])
def test_an_edge_that_no_patch_has_is_as_good_as_none(tmp_path: Path, edge: float) -> None:
    write_h5(tmp_path / "a.h5", np.ones((2, 3), np.float32), np.array([[0, 0], [256, 0]]))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["coords"].attrs["patch_size_level0"] = edge
    assert open_features(tmp_path).load("a").patch_size is None


@pytest.mark.parametrize("name", ["coords", "features", "instance_labels"])
def test_a_dataset_without_a_shape_is_told_by_name(tmp_path: Path, name: str) -> None:
    write_h5(tmp_path / "a.h5", np.ones((2, 3), np.float32))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        if name in file:
            del file[name]
        file[name] = h5py.Empty("f4")
    if name == "coords":
        assert "'coords' is an empty float32" in open_features(tmp_path).load("a").coords_problem
        return
    with pytest.raises(FeatureFileError, match=f"'{name}' is an empty float32, without a shape"):
        open_features(tmp_path).header("a")


def test_what_a_file_holds_instead_is_listed_and_not_all_of_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for index in range(300):
            file[f"tile_{index}"] = 0.0
    with pytest.raises(FeatureFileError, match=r"no dataset 'features' \(it holds tile_0, .* and 295 more\)"):
        open_features(tmp_path).load("a")
