"""CLAM's files as CLAM writes them, and every way in which they can be broken."""

import os
import pickle
import re
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from folders_for_tests import write_h5
from hypothesis import given, settings
from hypothesis import strategies as st

from milbench.errors import FeatureFileError
from milbench.formats import open_features

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
DOTTED = "TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB"


def test_h5_reads_back_with_its_coordinates_and_stored_type(tmp_path: Path) -> None:
    coords = np.array([[0, 0], [256, 0], [0, 256], [256, 256]], dtype=np.int32)
    write_h5(tmp_path / f"{DOTTED}.h5", FEATURES.astype(np.float16), coords)
    folder = open_features(tmp_path)
    assert list(folder.paths) == [DOTTED]
    assert folder.header(DOTTED).width == 3
    loaded = folder.load(DOTTED)
    assert loaded.features.dtype == torch.float16
    np.testing.assert_array_equal(loaded.features.numpy(), FEATURES)
    np.testing.assert_array_equal(loaded.coords.numpy(), coords)


def test_pt_reads_back_and_has_no_coordinates(tmp_path: Path) -> None:
    (tmp_path / "pt_files").mkdir()
    torch.save(torch.from_numpy(FEATURES), tmp_path / "pt_files" / f"{DOTTED}.pt")
    folder = open_features(tmp_path)
    assert folder.header(DOTTED).width == 3
    assert folder.load(DOTTED).coords is None
    np.testing.assert_array_equal(folder.load(DOTTED).features.numpy(), FEATURES)


def test_a_batch_axis_of_one_is_dropped(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", FEATURES[None], np.zeros((1, 4, 2), dtype=np.int32))
    (tmp_path / "as_pt").mkdir()
    torch.save(torch.from_numpy(FEATURES)[None], tmp_path / "as_pt" / "a.pt")
    for folder in (open_features(tmp_path), open_features(tmp_path / "as_pt")):
        assert folder.load("a").features.shape == (4, 3)
        assert folder.header("a").width == 3
    assert open_features(tmp_path).load("a").coords.shape == (4, 2)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"patch_size": 256}, None),
        ({"patch_size": 256, "patch_level": 1, "downsample": (4.0, 4.0)}, 1024.0),
        ({"patch_size": 256, "patch_size_level0": 512}, 512.0),
    ],
)
def test_the_patch_size_is_in_level_0_pixels_or_unknown(
    tmp_path: Path, attributes: dict[str, object], expected: float | None
) -> None:
    write_h5(tmp_path / "a.h5", FEATURES, np.zeros((4, 2), dtype=np.int32))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["coords"].attrs.update(attributes)
    assert open_features(tmp_path).load("a").patch_size == expected


@pytest.mark.parametrize("stored", ["<f2", "<f4", ">f4", "<f8"])
def test_values_survive_every_float_type_and_byte_order(tmp_path: Path, stored: str) -> None:
    write_h5(tmp_path / "a.h5", FEATURES.astype(stored))
    features = open_features(tmp_path).load("a").features
    assert features.numpy().dtype == np.dtype(stored).newbyteorder("=")
    np.testing.assert_array_equal(features.numpy(), FEATURES)


def test_a_tensor_that_was_saved_with_its_gradient_comes_back_without(tmp_path: Path) -> None:
    torch.save(torch.nn.Parameter(torch.ones(2, 3)), tmp_path / "a.pt")
    assert not open_features(tmp_path).load("a").features.requires_grad


def test_where_both_kinds_lie_the_choice_is_reported(tmp_path: Path) -> None:
    for sub, suffix in (("h5_files", "h5"), ("pt_files", "pt")):
        (tmp_path / sub).mkdir()
        path = tmp_path / sub / f"a.{suffix}"
        write_h5(path, FEATURES) if suffix == "h5" else torch.save(torch.from_numpy(FEATURES), path)
    folder = open_features(tmp_path)
    assert folder.paths["a"].suffix == ".h5"
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


@pytest.mark.parametrize(
    "content",
    [{"features": [1, 2]}, torch.ones(2, 3, dtype=torch.int64), torch.eye(3).to_sparse(), [1, 2]],
    ids=["dict", "integers", "sparse", "list"],
)
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


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["a.h5", "a.pt"]), st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_one_error_that_names_it_or_reads_back_whole(name: str, share: float) -> None:
    """HDF5 may end in bytes that hold nothing, so some cuts do no harm."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        if path.suffix == ".h5":
            write_h5(path, FEATURES, np.zeros((4, 2), dtype=np.int32))
        else:
            torch.save(torch.from_numpy(FEATURES), path)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        reader = open_features(Path(folder))
        try:
            whole = np.array_equal(reader.load("a").features.numpy(), FEATURES)
        except FeatureFileError:
            with pytest.raises(FeatureFileError, match=re.escape(str(path))):
                reader.load("a")
        else:
            assert whole


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((2, 3), dtype=np.int64), "'features' is int64 of shape"),
        (np.array([b"a", b"b"]), r"'features' is \|S1 of shape"),
        (np.float32(1), r"of shape \(\); expected float16 or float32"),
    ],
)
def test_what_is_no_table_of_floats_is_refused_when_its_width_is_asked_and_when_it_is_read(
    tmp_path: Path, features: np.ndarray, message: str
) -> None:
    write_h5(tmp_path / "a.h5", features)
    for use in (open_features(tmp_path).header, open_features(tmp_path).load):
        with pytest.raises(FeatureFileError, match=rf"a\.h5: .*{message}"):
            use("a")


def test_a_group_in_place_of_a_dataset_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("features")
    for use in (open_features(tmp_path).header, open_features(tmp_path).load):
        with pytest.raises(FeatureFileError, match=r"a\.h5: 'features' is a group"):
            use("a")


def test_a_pt_without_width_is_named(tmp_path: Path) -> None:
    torch.save(torch.tensor(1.0), tmp_path / "a.pt")
    with pytest.raises(FeatureFileError, match=r"a\.pt holds .*expected one float tensor"):
        open_features(tmp_path).header("a")


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        (np.ones((4, 3), dtype=np.int32), r"coordinates are int32 of shape (4, 3); expected x and y, (patches, 2)"),
        (np.full((4, 2), 0.5), "coordinates are float64 with fractions; expected whole level-0 pixels"),
        (np.full((4, 2), np.nan), "coordinates are NaN or infinite"),
        (np.full((4, 2), np.inf), "coordinates are NaN or infinite"),
        (np.ones((4, 2), dtype=np.float16), "coordinates are float16, which rounds them"),
        (np.ones((3, 2), dtype=np.int32), "4 patches but 3 coordinates"),
    ],
)
def test_features_are_read_without_coordinates_that_cannot_be_used(
    tmp_path: Path, coords: np.ndarray, message: str
) -> None:
    write_h5(tmp_path / "a.h5", FEATURES, coords)
    loaded = open_features(tmp_path).load("a")
    np.testing.assert_array_equal(loaded.features.numpy(), FEATURES)
    assert loaded.coords is None
    assert message in loaded.coords_problem


def test_patch_coordinates_are_not_mistaken_for_features(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["coords"] = np.zeros((3, 2), dtype=np.int32)
    with pytest.raises(FeatureFileError, match="patch coordinates only, not features"):
        open_features(tmp_path).header("a")


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
