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
from milbench.formats import clam, hdf5, open_features
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
def test_what_the_system_does_not_open_is_told_in_its_words_and_not_extracted_again(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    path.mkdir()
    assert f"{path} is a folder, not a file. Move it away" in refusal(path)
    path.rmdir()
    path.symlink_to("nowhere")
    told = refusal(path)
    assert (
        told == f"{path}, a link to nowhere, cannot be read: No such file or directory. Check the file and its rights."
    )


@pytest.mark.parametrize(("suffix", "kind"), [(".npy", "float128"), (".npz", "float128"), (".h5", "float128")])
def test_floats_that_torch_does_not_know_are_refused_by_their_header(tmp_path: Path, suffix: str, kind: str) -> None:
    values, path = np.ones((2, 3), np.longdouble), tmp_path / f"a{suffix}"
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["features"] = values
    else:
        np.save(path, values) if suffix == ".npy" else np.savez(path, features=values)
    assert f"{kind} of shape" in refusal(path)


@pytest.mark.parametrize("dtype", ["int8", "bool"])
def test_a_pack_of_no_floats_is_refused_by_its_header(tmp_path: Path, dtype: str) -> None:
    save_file({"features": np.ones((2, 3), dtype)}, tmp_path / "a.safetensors")
    assert f"'features' is torch.{dtype}" in refusal(tmp_path / "a.safetensors")


def test_a_pack_of_a_later_version_is_not_guessed_at(tmp_path: Path) -> None:
    save_file(
        {"features": np.ones((2, 3), np.float32)}, tmp_path / "a.safetensors", {"milbench_pack": '{"version": 2}'}
    )
    assert "a later milbench packed it, in version 2; this one reads 1" in refusal(tmp_path / "a.safetensors")


def test_an_archive_that_numpy_never_writes_is_refused_by_its_header(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", features=np.ones((2, 3), np.float32))
    with (
        zipfile.ZipFile(tmp_path / "b.npz") as read,
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as write,
    ):
        write.writestr("features.npy", read.read("features.npy"))
    assert "is compressed as NumPy never does. Save it again with numpy.savez_compressed" in refusal(tmp_path / "a.npz")


def repacked(path: Path, compression: int, most_bytes: int | None = None) -> None:
    """A `.pt` file written anew, its numbers compressed or cut."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content[:most_bytes] if "/data/" in name else content)


def test_a_pt_file_that_another_tool_compressed_holds_the_same_numbers(tmp_path: Path) -> None:
    """Mapped into memory, its compressed bytes would be taken for numbers."""
    features = torch.arange(600.0).reshape(20, 30)
    torch.save(features, tmp_path / "a.pt")
    repacked(tmp_path / "a.pt", zipfile.ZIP_DEFLATED)
    assert torch.equal(open_features(tmp_path).load("a").features, features)


def test_a_pt_file_whose_numbers_were_cut_is_refused_and_not_read_on_into_what_follows(tmp_path: Path) -> None:
    torch.save(torch.arange(60.0).reshape(20, 3), tmp_path / "a.pt")
    repacked(tmp_path / "a.pt", zipfile.ZIP_STORED, most_bytes=100)
    assert "declares 240 bytes of numbers, and none of its parts is so long" in refusal(tmp_path / "a.pt")


def test_coordinates_of_a_pt_file_that_are_no_tensor_stop_no_training(tmp_path: Path) -> None:
    torch.save({"features": torch.ones(2, 3), "coords": [[0, 0], [0, 256]]}, tmp_path / "a.pt")
    slide = open_features(tmp_path).load("a")
    assert slide.coords is None
    assert slide.coords_problem == open_features(tmp_path).header("a").coords_problem != ""


@pytest.mark.parametrize("content", ["[" * 100_000, '{"extractor": {"class": ' + '"a" ' * 300_000 + "}}", "\0"])
def test_an_odd_configuration_of_slideflow_names_no_encoder(tmp_path: Path, content: str) -> None:
    torch.save(torch.ones(2, 3), tmp_path / "a.pt")
    (tmp_path / "bags_config.json").write_text(content)
    assert open_features(tmp_path).header("a").encoder == ""


def test_a_pipe_in_the_place_of_slideflows_configuration_is_not_waited_for(tmp_path: Path) -> None:
    torch.save(torch.ones(2, 3), tmp_path / "a.pt")
    np.savez(tmp_path / "a.index.npz", arr_0=np.array([[0, 0], [256, 0]]))
    os.mkfifo(tmp_path / "bags_config.json")
    assert open_features(tmp_path).header("a").encoder == ""


@pytest.mark.parametrize("truth", [np.array(["a", "b"]), np.ones(3), np.ones(2, np.longdouble)], ids=str)
def test_a_truth_that_is_none_is_refused_in_every_format(tmp_path: Path, truth: np.ndarray) -> None:
    for name in ("features", "inst_labels"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "features" / "a.npy", np.ones((2, 3), np.float32))
    np.save(tmp_path / "inst_labels" / "a.npy", truth)
    with pytest.raises(FeatureFileError, match=r"a\.npy is .* expected numbers of shape \(2, tasks\)"):
        open_features(tmp_path / "features").load("a")


def test_a_truth_of_another_number_in_a_pack_is_refused(tmp_path: Path) -> None:
    tensors = {"features": np.ones((2, 3), np.float32), "instance_labels": np.ones(3, np.float32)}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(FeatureFileError, match=r"'instance_labels' is float32 of shape \(3,\); expected numbers"):
        open_features(tmp_path).load("a")


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


def test_a_link_to_a_damaged_object_is_told_in_the_librarys_words(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = np.zeros((4, 6), np.float32), np.zeros((4, 2), np.int64)
        start = h5py.h5o.get_info(file["coords"].id).addr
    content = bytearray(path.read_bytes())
    content[start : start + 4] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(FeatureFileError, match=r"no readable HDF5 file \(.*[Uu]nable to .*open object") as found:
        hdf5.head(path, clam.describe)
    assert "FastRLock" not in str(found.value), "where Python noticed it"


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
    with pytest.raises(FeatureFileError, match=r"a\.h5: 'instance_labels': 0 of its 3000000000 chunks were written"):
        open_features(tmp_path / "truth").load("a")
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 8), }".ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(160)
    (tmp_path / "npy" / "a.npy").write_bytes(array)
    with zipfile.ZipFile(tmp_path / "npz" / "a.npz", "w") as archive:
        archive.writestr("features.npy", array)
    for name in ("npy", "npz"):
        with pytest.raises(FeatureFileError, match=r"declares \(1000000000, 8\) values of float32, which a file of"):
            open_features(tmp_path / name).load("a")


def test_an_array_without_its_last_value_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones((3, 2), np.float32))
    assert open_features(tmp_path).header("a")[:2] == (3, 2)
    os.truncate(path, path.stat().st_size - 4)
    assert "declares (3, 2) values of float32, which a file of 148 bytes cannot hold" in refusal(path)
