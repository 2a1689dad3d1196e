"""CLAM's files as CLAM writes them, and every way in which they can be broken."""

import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import write_h5

from milbench.errors import FeatureFileError
from milbench.formats import open_features

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
DOTTED = "TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB"


def test_h5_reads_back_with_its_coordinates_and_stored_type(tmp_path: Path) -> None:
    coords = np.array([[0, 0], [256, 0], [0, 256], [256, 256]], dtype=np.int32)
    write_h5(tmp_path / f"{DOTTED}.h5", FEATURES.astype(np.float16), coords)
    folder = open_features(tmp_path)
    assert list(folder.files()) == [DOTTED]
    assert folder.width(DOTTED) == 3
    loaded = folder.load(DOTTED)
    assert loaded.features.dtype == torch.float16
    np.testing.assert_array_equal(loaded.features.numpy(), FEATURES)
    np.testing.assert_array_equal(loaded.coords.numpy(), coords)


def test_pt_reads_back_and_has_no_coordinates(tmp_path: Path) -> None:
    (tmp_path / "pt_files").mkdir()
    torch.save(torch.from_numpy(FEATURES), tmp_path / "pt_files" / f"{DOTTED}.pt")
    folder = open_features(tmp_path)
    assert folder.width(DOTTED) == 3
    assert folder.load(DOTTED).coords is None
    np.testing.assert_array_equal(folder.load(DOTTED).features.numpy(), FEATURES)


def test_a_batch_axis_of_one_is_dropped(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", FEATURES[None])
    torch.save(torch.from_numpy(FEATURES)[None], tmp_path / "b.pt")
    assert open_features(tmp_path).load("a").features.shape == (4, 3)


def test_where_both_kinds_lie_the_choice_is_reported(tmp_path: Path) -> None:
    for sub, suffix in (("h5_files", "h5"), ("pt_files", "pt")):
        (tmp_path / sub).mkdir()
        path = tmp_path / sub / f"a.{suffix}"
        write_h5(path, FEATURES) if suffix == "h5" else torch.save(torch.from_numpy(FEATURES), path)
    folder = open_features(tmp_path)
    assert folder.files()["a"].suffix == ".h5"
    assert "preferred over 1 .pt files" in folder.layout


def test_a_pickled_object_is_refused_and_never_run(tmp_path: Path) -> None:
    witness = tmp_path / "the payload ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(witness),)

    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Payload()))
    torch.save(Payload(), tmp_path / "zipped.pt")
    for name in ("plain", "zipped"):
        with pytest.raises(FeatureFileError, match=rf"{name}\.pt holds a pickled Python object.*Save a plain tensor"):
            open_features(tmp_path).load(name)
    assert not witness.exists()
    pickle.loads((tmp_path / "plain.pt").read_bytes())
    assert witness.exists(), "the payload would have run, had it been opened"


@pytest.mark.parametrize("content", [{"features": torch.ones(2, 3)}, torch.ones(2, 3, dtype=torch.int64), [1, 2]])
def test_a_pt_without_one_float_tensor_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(FeatureFileError, match=r"a\.pt holds .*expected one float tensor"):
        open_features(tmp_path).load("a")


@pytest.mark.parametrize("name", ["a.h5", "a.pt"])
@pytest.mark.parametrize("content", [b"", b"not a feature file", b"\x89HDF\r\n\x1a\n" + b"\0" * 50])
def test_a_corrupt_file_is_one_error_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FeatureFileError, match=name.replace(".", r"\.")):
        open_features(tmp_path).load("a")


def test_a_truncated_h5_is_one_error_that_names_it(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", np.random.default_rng(0).standard_normal((500, 30)))
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FeatureFileError, match=r"a\.h5 is no readable HDF5 file"):
        open_features(tmp_path).load("a")


def test_patch_coordinates_are_not_mistaken_for_features(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["coords"] = np.zeros((3, 2), dtype=np.int32)
    with pytest.raises(FeatureFileError, match="CLAM's patch coordinates, not features"):
        open_features(tmp_path).width("a")


def test_features_and_coordinates_of_other_lengths_are_refused(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", FEATURES, np.zeros((3, 2), dtype=np.int32))
    with pytest.raises(FeatureFileError, match="4 patches but 3 coordinates"):
        open_features(tmp_path).load("a")


def test_a_folder_without_features_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FeatureFileError, match="does not exist"):
        open_features(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(FeatureFileError, match=r"Looked for: \{slide\}\.h5"):
        open_features(tmp_path)


def test_a_slide_without_file_is_named(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", FEATURES)
    with pytest.raises(FeatureFileError, match="slide b has no feature file"):
        open_features(tmp_path).load("b")
