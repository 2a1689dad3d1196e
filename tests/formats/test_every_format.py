"""One contract for every layout: what a test writes as the extractor writes it comes back unchanged."""

import pickle
import re
import tempfile
from pathlib import Path
from shutil import rmtree

import h5py
import numpy as np
import pytest
import torch
from formats_for_tests import (
    TRIDENT_JOB,
    WRITERS,
    Slide,
    Writer,
    eva,
    owkin,
    owkin_folders,
    stamp_oldest,
    trident_h5,
    trident_pt,
    wsidata,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr_stores import write_array

import milbench.formats
from milbench.errors import FeatureFileError
from milbench.formats import open_features

DOTTED = "TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB"


def reshape_stored(path: Path, axes: tuple[int, ...]) -> None:
    """Give the features in `path` other axes, and leave the rest of the file as it is."""
    if path.suffix in (".h5", ".hdf5"):
        with h5py.File(path, "a") as file:
            name = "feats" if "feats" in file else "features"
            values, told = file[name][()].reshape(axes), dict(file[name].attrs)
            del file[name]
            file.create_dataset(name, data=values).attrs.update(told)
    elif path.suffix == ".pt":
        content = torch.load(path, weights_only=False)
        if isinstance(content, dict):
            content["feats"] = content["feats"].reshape(axes)
        torch.save(content if isinstance(content, dict) else content.reshape(axes), path)
    elif path.suffix == ".npz":
        with np.load(path) as archive:
            content = {name: archive[name] for name in archive.files}
        name = next(name for name in content if name != "coords")
        np.savez(path, **content | {name: content[name].reshape(axes)})
    elif path.is_dir():
        array = path / ("X" if path.name == "uni_tiles" else "features")
        values = np.frombuffer(array.joinpath("c", "0", "0").read_bytes(), np.float32).reshape(axes)
        rmtree(array)
        write_array(array, values)
    else:
        np.save(path, np.load(path).reshape(axes))


def damage(path: Path) -> None:
    """Cut a file, or what a store says of its features."""
    if path.is_dir():
        path /= f"{'X' if path.name == 'uni_tiles' else 'features'}/zarr.json"
    path.write_bytes(path.read_bytes()[:20])


def write_npy_header(path: Path, shape: tuple[int, ...]) -> None:
    """A `.npy` file that declares `shape` and holds some bytes."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(160))


writers = pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)


def all_but(*others: Writer) -> pytest.MarkDecorator:
    kept = [writer for writer in WRITERS if writer not in others]
    return pytest.mark.parametrize("writer", kept, ids=lambda writer: writer.__name__)


in_one_array = all_but(owkin, owkin_folders, eva)
"""All but those whose places stand in the columns of the features, and lists of a tensor per patch."""

places_apart = all_but(owkin, owkin_folders, wsidata)
"""All but those whose places cannot be of another number than the patches; wsidata is refused then, as told elsewhere."""


def raster(n: int, width: int, dtype: str = "float32", seed: int = 0) -> Slide:
    features = np.random.default_rng(seed).standard_normal((n, width)).astype(dtype)
    return Slide(features, np.stack([np.arange(n) % 5 * 256, np.arange(n) // 5 * 256], axis=1))


@writers
@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(2, 12),
    width=st.integers(1, 5),
    dtype=st.sampled_from(["float16", "float32"]),
    seed=st.integers(0, 99),
)
def test_features_and_coordinates_come_back_as_they_were_written(
    writer: Writer, n: int, width: int, dtype: str, seed: int
) -> None:
    slide = raster(n, width, dtype, seed)
    with tempfile.TemporaryDirectory() as root:
        folder, expected = writer(Path(root) / "data", {DOTTED: slide, "other": raster(3, width, dtype)})
        reader = open_features(folder)
        loaded, header = reader.load(DOTTED), reader.header(DOTTED)
    assert reader.layout.startswith(f"{expected.name}: 2 ")
    assert sorted(reader.paths) == [DOTTED, "other"]
    assert (header.n_patches, header.width, header.dtype) == (n, width, dtype)
    assert (header.encoder, header.magnification, header.mpp) == (
        expected.encoder,
        expected.magnification,
        expected.mpp,
    )
    assert (header.weights_sha256, header.transform) == (expected.weights_sha256, expected.transform)
    assert not header.facts_problem
    assert loaded.features.numpy().dtype == dtype
    np.testing.assert_array_equal(loaded.features.numpy(), slide.features)
    assert header.unit == (expected.unit or "")
    if expected.unit is None:
        assert loaded.coords is None
    else:
        assert loaded.unit == expected.unit
        assert loaded.patch_size == header.patch_size == expected.patch_size
        assert loaded.coords is not None
        np.testing.assert_array_equal(loaded.coords.numpy(), slide.coords * expected.factor)


@writers
def test_a_bag_of_one_patch_is_a_bag(writer: Writer, tmp_path: Path) -> None:
    slides = {"a": raster(4, 3), "one": raster(1, 3)}
    reader = open_features(writer(tmp_path / "data", slides)[0])
    np.testing.assert_array_equal(reader.load("one").features.numpy(), slides["one"].features)
    assert reader.header("one")[:2] == (1, 3)


@writers
def test_a_broken_file_is_one_error_that_names_it_and_hides_no_other_slide(writer: Writer, tmp_path: Path) -> None:
    slides = {"a": raster(4, 3), "b": raster(5, 3)}
    folder, expected = writer(tmp_path / "data", slides)
    path = open_features(folder).paths["a"]
    damage(path)
    reader = open_features(folder)
    assert reader.layout.startswith(expected.name)
    for use in (reader.load, reader.header):
        with pytest.raises(FeatureFileError, match=re.escape(str(path))):
            use("a")
    np.testing.assert_array_equal(reader.load("b").features.numpy(), slides["b"].features)


def test_every_module_of_a_format_is_in_this_contract() -> None:
    shared = {
        "tensor_file",
        "zarr_store",
        "detect",
        "hdf5",
        "hdf5_file",
        "shapes",
        "packed",
        "tensors",
        "arrays",
        "opening",
        "linked",
        "lock",
        "global_heap",
        "chunks",
        "chunk_index",
        "parts",
        "shuffle",
        "pickled_array",
        "mapped_tensor",
        "inflate",
        "unchanged",
        "page_cache",
        "declared",
        "scale",
    }  # packed: tests/intake/test_pack.py
    folder = Path(milbench.formats.__file__).parent
    formats = {path.stem for path in folder.glob("[a-z]*.py")} - shared
    tested = {writer.__name__.split("_")[0] for writer in WRITERS}
    assert formats <= tested


@in_one_array
@pytest.mark.parametrize("axes", [(1, 4, 3), (4, 1, 3), (4, 3, 1, 1), (1, 4, 1, 3)], ids=str)
def test_axes_of_length_one_are_dropped_in_every_format(writer: Writer, axes: tuple[int, ...], tmp_path: Path) -> None:
    slide = raster(4, 3)
    folder, _ = writer(tmp_path / "data", {"a": slide, "b": slide})
    reshape_stored(open_features(folder).paths["a"], axes)
    reader = open_features(folder)
    assert reader.header("a")[:2] == (4, 3)
    np.testing.assert_array_equal(reader.load("a").features.numpy(), slide.features)


@places_apart
def test_coordinates_of_another_number_stop_no_training_and_the_header_tells(writer: Writer, tmp_path: Path) -> None:
    slide = raster(4, 3)
    folder, expected = writer(tmp_path / "data", {"a": Slide(slide.features, slide.coords[:3]), "b": slide})
    reader = open_features(folder)
    loaded, problem = reader.load("a"), reader.header("a").coords_problem
    np.testing.assert_array_equal(loaded.features.numpy(), slide.features)
    assert loaded.coords is None
    assert loaded.coords_problem == problem
    assert problem == ("" if expected.unit is None else "4 patches but 3 coordinates")
    assert reader.load("b").coords_problem == ""


@pytest.mark.parametrize("shape", [(0, 3), (0,)])
def test_an_empty_slide_of_trident_saved_by_torch_is_an_empty_bag(tmp_path: Path, shape: tuple[int, ...]) -> None:
    folder, _ = trident_pt(tmp_path, {"a": raster(2, 3)})
    torch.save(np.zeros(shape, dtype=np.float32), folder / "empty.pt")
    reader = open_features(folder)
    assert reader.header("empty").n_patches == 0
    assert len(reader.load("empty").features) == 0


@pytest.mark.parametrize("n_patches", [1, 5])
def test_a_slide_vector_of_trident_has_no_coordinates(tmp_path: Path, n_patches: int) -> None:
    folder = tmp_path / TRIDENT_JOB / "slide_features_titan"
    folder.mkdir(parents=True)
    vector, coords = np.arange(4, dtype=np.float32), np.squeeze(raster(n_patches, 2).coords)
    with h5py.File(folder / "a.h5", "w") as file:
        file["features"], file["coords"] = vector, coords
        file["features"].attrs["encoder"] = "titan"
    reader = open_features(folder)
    assert (reader.header("a")[:2], reader.header("a").unit) == ((1, 4), "")
    loaded = reader.load("a")
    assert (loaded.coords, loaded.coords_problem) == (None, "")
    np.testing.assert_array_equal(loaded.features.numpy(), vector[None])


@pytest.mark.parametrize("shape", [(0, 3), (0,)])
def test_an_empty_slide_of_trident_is_an_empty_bag(tmp_path: Path, shape: tuple[int, ...]) -> None:
    folder, _ = trident_h5(tmp_path, {"a": raster(2, 3)})
    with h5py.File(folder / "empty.h5", "w") as file:
        file["features"] = np.zeros(shape, dtype=np.float32)
        file["coords"] = np.zeros(shape[:1], dtype=np.int64)
    reader = open_features(folder)
    assert reader.header("empty").n_patches == 0
    assert len(reader.load("empty").features) == 0


def test_several_encoders_of_trident_are_not_chosen_from_silently(tmp_path: Path) -> None:
    for encoder in ("uni_v1", "conch_v1"):
        (tmp_path / TRIDENT_JOB / f"features_{encoder}").mkdir(parents=True)
        with h5py.File(tmp_path / TRIDENT_JOB / f"features_{encoder}" / "a.h5", "w") as file:
            file["features"] = np.ones((2, 3), dtype=np.float32)
    with pytest.raises(FeatureFileError, match=r"several extractions: .*features_conch_v1, .*features_uni_v1"):
        open_features(tmp_path)


@pytest.mark.parametrize("kind", ["slide", "patient"])
def test_a_slide_vector_of_stamp_is_a_bag_of_one(tmp_path: Path, kind: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["feats"] = np.ones((1, 7), dtype=np.float16)
        file.attrs.update({"stamp_version": "2.3.0", "feat_type": kind, "extractor": "titan"})
    loaded = open_features(tmp_path).load("a")
    assert (loaded.features.shape, loaded.coords) == ((1, 7), None)


def test_one_vector_is_a_bag_of_one_whatever_the_file(tmp_path: Path) -> None:
    vector = np.arange(4, dtype=np.float32)
    for name, save in {
        "h5": lambda path: h5py.File(path, "w").create_dataset("features", data=vector).file.close(),
        "pt": lambda path: torch.save(torch.from_numpy(vector), path),
        "npy": lambda path: np.save(path, vector),
        "npz": lambda path: np.savez(path, vector),
    }.items():
        (tmp_path / name).mkdir()
        save(tmp_path / name / f"a.{name}")
        reader = open_features(tmp_path / name)
        assert reader.header("a")[:2] == (1, 4)
        np.testing.assert_array_equal(reader.load("a").features.numpy(), vector[None])


def test_the_oldest_stamp_files_without_a_stride_of_224_keep_an_unknown_unit(tmp_path: Path) -> None:
    slide = raster(6, 3)
    folder, _ = stamp_oldest(tmp_path / "data", {"a": Slide(slide.features, slide.coords * 2)})
    assert open_features(folder).load("a").unit == "unit unknown"


def test_truth_of_torchmil_and_of_simulated_files_comes_along(tmp_path: Path) -> None:
    from formats_for_tests import torchmil_npy

    folder, _ = torchmil_npy(tmp_path / "torchmil", {"a": raster(4, 3)})
    assert open_features(folder).load("a").instance_labels.tolist() == [[0], [1], [0], [1]]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["features"], file["instance_labels"] = np.ones((2, 3), np.float32), np.eye(2, dtype=np.uint8)
    assert open_features(tmp_path).load("b").instance_labels.tolist() == [[1, 0], [0, 1]]


def test_numpy_files_of_objects_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.mkdir, (ran,)

    objects = np.array([Payload()], dtype=object)
    for name, save in {"npy": np.save, "npz": np.savez}.items():
        (tmp_path / name).mkdir()
        save(tmp_path / name / f"a.{name}", objects)
        with pytest.raises(FeatureFileError, match=rf"a\.{name} is no readable NumPy file"):
            open_features(tmp_path / name).load("a")
    (tmp_path / "pt").mkdir()
    torch.save(objects, tmp_path / "pt" / "a.pt")
    with pytest.raises(FeatureFileError, match=r"a\.pt holds a pickled Python object"):
        open_features(tmp_path / "pt").load("a")
    assert not ran.exists()
    pickle.loads(pickle.dumps(Payload()))
    assert ran.exists(), "the payload would have run"


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.npy", lambda path: np.save(path, np.ones((2, 3), dtype=int)), "holds int64 of shape"),
        ("a.npz", lambda path: np.savez(path, x=np.ones((2, 3)), y=np.ones(2)), "expected an array called 'features'"),
        ("a.pt", lambda path: torch.save({"x": torch.ones(2, 3)}, path), "dict without 'features' or 'feats'"),
        ("a.pt", lambda path: torch.save([torch.ones(3)] * 2, path), "holds a list of 2 tensors.*Save them as one"),
        ("a.pt", lambda path: torch.save(torch.ones(2, 3, device="meta"), path), "declares 6 numbers, but holds 0"),
        ("a.pt", lambda path: torch.save(torch.ones(1, 1).expand(2, 3), path), "declares 6 numbers, but holds 1"),
        ("a.npy", lambda path: write_npy_header(path, (-5, 8)), r"declares \(-5, 8\) values of float32"),
    ],
)
def test_what_is_no_bag_is_refused_by_name(tmp_path: Path, name: str, write: object, message: str) -> None:
    write(tmp_path / name)  # type: ignore[operator]
    with pytest.raises(FeatureFileError, match=f"{name}.*{message}"):
        open_features(tmp_path).load("a")
