"""A file that is not what its name says is called what it is, and a library's advice to be careless is not passed on."""

import os
import socket
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from milbench.errors import FeatureFileError
from milbench.formats import open_features
from milbench.formats.opening import reason_of

SUFFIXES = (".pt", ".npy", ".npz", ".h5", ".safetensors")
HTML = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"


def refusal(path: Path) -> str:
    reader = open_features(path.parent)
    with pytest.raises(FeatureFileError) as header:
        reader.header("a")
    with pytest.raises(FeatureFileError) as load:
        reader.load("a")
    assert str(path) in str(load.value)
    return str(header.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("content", "what"), [
    (HTML, "is an HTML page"), (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
    (b"\x1f\x8b\x08\0", "is a gzip archive"), (b"<?xml version='1.0'?><Error/>", "is an XML page"), (b"", "it is empty"),
])  # fmt: skip
def test_what_lies_under_a_wrong_name_is_called_what_it_is(
    tmp_path: Path, suffix: str, content: bytes, what: str
) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert what in refusal(tmp_path / f"a{suffix}")


def test_an_hdf5_file_called_pt_is_called_an_hdf5_file_and_a_damaged_one_is_damaged(tmp_path: Path) -> None:
    for name in ("pt/a.pt", "h5/a.h5"):
        (tmp_path / name).parent.mkdir()
        with h5py.File(tmp_path / name, "w") as file:
            file["features"] = np.ones((2, 3), np.float32)
    assert "is an HDF5 file, no .pt file. Give it the ending .h5" in refusal(tmp_path / "pt" / "a.pt")
    (tmp_path / "h5" / "a.h5").write_bytes((tmp_path / "h5" / "a.h5").read_bytes()[:200])
    assert "is no readable HDF5 file" in refusal(tmp_path / "h5" / "a.h5")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a device"])
def test_special_files_are_refused_unopened(
    tmp_path: Path, suffix: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        monkeypatch.chdir(tmp_path)  # a socket's address is short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    assert f"is {kind}, not a file, and was not opened" in refusal(path)


@pytest.mark.filterwarnings("ignore")  # torch calls scripting old
def test_torchs_advice_to_switch_its_safety_off_is_not_passed_on(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "a.pt"))
    said = refusal(tmp_path / "a.pt")
    assert "weights_only" not in said
    assert "Extract this slide again" in said
    assert reason_of(RuntimeError("set `weights_only` to False")) == ""
    assert reason_of(ValueError("use allow_pickle=True")) == ""


def test_bfloat16_as_raw_bytes_is_named(tmp_path: Path) -> None:
    raw = np.zeros((4, 3), dtype="V2")
    for name in ("npy", "npz", "h5"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "npy" / "a.npy", raw)
    np.savez(tmp_path / "npz" / "a.npz", features=raw)
    with h5py.File(tmp_path / "h5" / "a.h5", "w") as file:
        file["features"] = raw
    for name in ("npy", "npz", "h5"):
        assert "bfloat16 as two raw bytes per value" in refusal(tmp_path / name / f"a.{name}")


@pytest.mark.parametrize("told", ['{"patch_size": [1]}', '{"unit": 7}', '{"patch_size": NaN}', "{", "[" * 5000])
def test_odd_metadata_of_a_pack_is_refused_by_name(tmp_path: Path, told: str) -> None:
    save_file({"features": np.ones((2, 3), np.float32)}, tmp_path / "a.safetensors", {"milbench_pack": told})
    assert "a.safetensors is no readable safetensors file" in refusal(tmp_path / "a.safetensors")


@pytest.mark.parametrize("coords", [np.inf, 1e300, -1e12])
@pytest.mark.parametrize("name", ["features", "feats"])
def test_coordinates_that_no_slide_has_are_a_reason_not_to_draw_and_no_traceback(
    tmp_path: Path, coords: float, name: str
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[name], file["coords"] = np.ones((3, 2), np.float32), np.full((3, 2), coords)
    loaded = open_features(tmp_path).load("a")
    assert loaded.coords is None
    assert ("infinite" if np.isinf(coords) else "no slide is so large") in loaded.coords_problem


def test_declared_shapes_are_held_against_the_size_of_the_file(tmp_path: Path) -> None:
    for name in ("truth", "npy", "npz"):
        (tmp_path / name).mkdir()
    with h5py.File(tmp_path / "truth" / "a.h5", "w") as file:
        file["features"] = np.ones((3, 2), np.float32)
        file.create_dataset("instance_labels", (3, 10**12), np.uint8, chunks=(1, 1000))
    with pytest.raises(FeatureFileError, match=r"a\.h5: 'instance_labels' declares \(3, 1000000000000\) values"):
        open_features(tmp_path / "truth").load("a")
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 8), }".ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(160)
    (tmp_path / "npy" / "a.npy").write_bytes(array)
    with zipfile.ZipFile(tmp_path / "npz" / "a.npz", "w") as archive:
        archive.writestr("features.npy", array)
    for name in ("npy", "npz"):
        with pytest.raises(FeatureFileError, match=r"declares \(1000000000, 8\) values of float32, which a file of"):
            open_features(tmp_path / name).load("a")
