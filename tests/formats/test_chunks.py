"""Chunks: read in few large reads and inflated by threads, the same values as the library's own, or left to it."""

import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milbench.errors import FeatureFileError
from milbench.formats import chunk_index as chunk_index_of
from milbench.formats import chunks, hdf5, open_features
from milbench.formats.chunk_index import _from_library, _from_tree, chunk_index

ROWS, WIDTH = 300, 24
DTYPES = ("<f2", "<f4", "<f8", ">f2", ">f4", "<i4", "<i8", ">i8", "u1")
FILTERS = (
    {},
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True},
    {"compression": "lzf"},
    {"compression": "gzip", "fletcher32": True},
    {"shuffle": True},
    {"scaleoffset": 3},
)
KNOWN = FILTERS[:3]


@pytest.fixture(params=[1, 2])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def written(path: Path, values: np.ndarray, **how: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=values, **how)
    return path


def read_here(path: Path) -> np.ndarray | None:
    """What is read without the library, or None if it is asked instead."""
    with h5py.File(path) as file:
        stored = file["features"]
        array = np.empty(stored.shape, stored.dtype)
        return array if chunks.read_chunks(stored, array) else None


def read_anyhow(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return hdf5.values(file["features"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_chunked_dataset_reads_as_the_library_reads_it(tmp_path: Path, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple))
    chunk = tuple(data.draw(st.integers(1, length)) for length in shape)
    dtype, how = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(FILTERS))
    if how.get("scaleoffset") and np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize < 4:
        how = {}
    libver = data.draw(st.sampled_from(["earliest", "latest"]))
    userblock = data.draw(st.sampled_from([0, 512]))
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=libver, userblock_size=userblock) as file:
        file.create_dataset("features", data=numbers(shape, dtype), chunks=chunk, maxshape=[None] * len(shape), **how)
    with h5py.File(path) as file:
        expected, found = file["features"][()], hdf5.values(file["features"])
    assert found.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_dataset_that_grew_and_was_written_in_any_order_reads_as_the_library_reads_it(
    tmp_path: Path, data: st.DataObject
) -> None:
    """Rows are written out of order, sometimes never, some chunks twice, the dataset made larger and smaller in between."""
    path, width = tmp_path / "a.h5", data.draw(st.integers(1, 9))
    chunk = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, width)))
    how = data.draw(st.sampled_from(KNOWN))
    with h5py.File(path, "w") as file:
        stored = file.create_dataset(
            "features", (0, width), "f4", chunks=chunk, maxshape=(None, None), fillvalue=7, **how
        )
        for seed, n_rows in enumerate(data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=5))):
            stored.resize((n_rows, width))
            for row in data.draw(st.permutations(range(n_rows)))[: data.draw(st.integers(0, 30))]:
                stored[row] = numbers((width,), "f4", seed + row)
            file.create_dataset(f"between{seed}", data=numbers((11,), "f4"))
    with h5py.File(path) as file:
        expected, found = file["features"][()], hdf5.values(file["features"])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("how", KNOWN, ids=str)
@pytest.mark.parametrize("chunk", [(1, WIDTH), (7, WIDTH), (ROWS, WIDTH), (50, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["<f2", ">f4"])
def test_usual_files_are_read_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, object], chunk: tuple[int, int], dtype: str
) -> None:
    monkeypatch.setattr(chunks, "BATCH", 2000)  # several batches, for several threads
    values = numbers((ROWS, WIDTH), dtype)
    found = read_here(written(tmp_path / "a.h5", values, chunks=chunk, **how))
    assert found is not None
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("mask", range(4))
def test_a_filter_that_was_left_out_of_a_chunk_is_not_undone(tmp_path: Path, mask: int) -> None:
    values = numbers((6, WIDTH), "<f4")
    path = written(tmp_path / "a.h5", np.zeros_like(values), chunks=(2, WIDTH), compression="gzip", shuffle=True)
    with h5py.File(path, "a") as file:
        raw = values[2:4].view(np.uint8).reshape(-1, 4)
        shuffled = raw if mask & 1 else raw.T
        content = np.ascontiguousarray(shuffled).tobytes()
        content = content if mask & 2 else zlib.compress(content)
        file["features"].id.write_direct_chunk((2, 0), content, filter_mask=mask)
    found = read_here(path)
    assert found is not None
    np.testing.assert_array_equal(found[2:4], values[2:4])
    np.testing.assert_array_equal(found, read_anyhow(path))


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("shape", [(1, 3), (70, 3), (5000, 2), (130, 300)], ids=str)
def test_the_tree_and_the_library_tell_the_same_places(tmp_path: Path, shape: tuple[int, int], libver: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        file.create_dataset("features", data=numbers(shape, "f4"), chunks=(1, min(shape[1], 50)), maxshape=(None, None))
    with h5py.File(tmp_path / "a.h5") as file:
        stored, descriptor = file["features"], file.id.get_vfd_handle()
        own, told = _from_tree(stored, descriptor, stored.id.get_num_chunks()), _from_library(stored)
        assert (own is not None) == (libver == "earliest")
        for mine, theirs in zip(own or told, told, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        found = chunk_index(stored, descriptor)
        assert found is not None
        for mine, theirs in zip(found, told[1:], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_older_libraries_read_what_they_tell_no_places_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 below 1.14.3 tells addresses without the user block, and below 1.12.3 lists no chunks."""
    values = numbers((40, 8), "f4")
    for libver in ("earliest", "latest"):
        with h5py.File(tmp_path / "a.h5", "w", libver=libver, userblock_size=512) as file:
            file.create_dataset("features", data=values, chunks=(1, 8))
        assert read_here(tmp_path / "a.h5") is None
        np.testing.assert_array_equal(read_anyhow(tmp_path / "a.h5"), values)
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.create_dataset("features", data=values, chunks=(1, 8))
    assert read_here(tmp_path / "a.h5") is not None
    chunks._remembered.clear()
    monkeypatch.setattr(chunk_index_of, "hasattr", lambda *_: False, raising=False)
    assert read_here(tmp_path / "a.h5") is None


def test_a_dataset_that_was_filled_in_part_is_left_to_the_library(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", (8, 2), "f4", chunks=(1, 2), fillvalue=3)[1:5] = 1
    assert read_here(tmp_path / "a.h5") is None
    assert read_anyhow(tmp_path / "a.h5")[:, 0].tolist() == [3, 1, 1, 1, 1, 3, 3, 3]


@pytest.mark.parametrize("how", [{}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True}], ids=str)
def test_whatever_byte_is_damaged_the_values_are_the_true_ones_or_the_outcome_is_the_librarys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, object]
) -> None:
    """If a key in the index is damaged, the library hands out zeros for that chunk (HDF5 2.0.0), where its values are read here."""
    values = numbers((40, 8), "f4")
    sound = written(tmp_path / "sound.h5", values, chunks=(2, 8), **how).read_bytes()
    folder = tmp_path / "slides"
    folder.mkdir()
    truth, generator = str(values.tobytes()), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(sound)
        damaged[generator.integers(512, len(sound))] ^= int(generator.integers(1, 256))
        (folder / "a.h5").write_bytes(damaged)
        own = outcome(folder)
        with monkeypatch.context() as patched:
            patched.setattr(hdf5, "read_chunks", lambda _stored, _array: False)
            assert own in (truth, outcome(folder))


def outcome(folder: Path) -> str:
    """A slide's values, or why they are refused."""
    try:
        return str(open_features(folder).load("a").features.numpy().tobytes())
    except FeatureFileError as error:
        return str(error)


@pytest.mark.parametrize("how", KNOWN, ids=str)
def test_a_file_that_was_cut_off_is_refused_by_one_message_that_names_it(
    tmp_path: Path, how: dict[str, object]
) -> None:
    path = written(tmp_path / "a.h5", numbers((400, 32), "f4"), chunks=(1, 32), **how)
    whole = path.read_bytes()
    reader = open_features(tmp_path)
    for share in (0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(FeatureFileError, match=r"a\.h5 is no readable HDF5 file \(.*truncated file"):
            reader.load("a")


def test_threads_stay_few_however_many_bags_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "BATCH", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    values = numbers((500, 16), "f4")
    path = written(tmp_path / "a.h5", values, chunks=(10, 16), compression="gzip")
    found: list[np.ndarray] = []
    readers = [threading.Thread(target=lambda: found.append(read_anyhow(path))) for _ in range(6)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert sum(thread.name.startswith("milbench-read") for thread in threading.enumerate()) <= 2
    assert len(found) == 6
    assert all(np.array_equal(each, values) for each in found)


def test_a_file_that_is_open_for_writing_is_left_to_the_library(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("features", data=numbers((4, 2), "f4"), chunks=(1, 2))
        assert not chunks.read_chunks(stored, np.empty((4, 2), "f4"))


@pytest.mark.parametrize("how", ["rewritten", "replaced", "grown"])
def test_a_file_that_changed_between_reads_gives_its_new_values(tmp_path: Path, how: str) -> None:
    path, values = tmp_path / "slide.h5", numbers((40, 8), "<f4")
    written(path, values, chunks=(1, 8))
    assert np.array_equal(read_anyhow(path), values)
    new = numbers((40, 8), "<f4", seed=1)
    if how == "rewritten":  # the same size, in the same place on the disk
        with h5py.File(path, "r+") as file:
            file["features"][...] = new
    elif how == "replaced":  # chunks in another order, one rename
        other = tmp_path / "other.h5"
        with h5py.File(other, "w") as file:
            stored = file.create_dataset("features", new.shape, new.dtype, chunks=(1, 8))
            for row in reversed(range(len(new))):
                stored[row] = new[row]
        other.rename(path)
    else:
        new = np.concatenate([values, new])
        written(path, new, chunks=(1, 8))
    assert np.array_equal(read_anyhow(path), new)


@pytest.mark.parametrize("n_packed", [0, 3, 40], ids=["none", "few", "many"])
@pytest.mark.parametrize("chunk", [(7, 8), (7, WIDTH), (400, 8)], ids=str)
def test_lzf_gives_the_librarys_values_however_many_chunks_it_made_smaller(
    tmp_path: Path, chunk: tuple[int, int], n_packed: int
) -> None:
    """Noise gets no smaller, and zeros do."""
    values = np.random.default_rng(0).standard_normal((401, WIDTH)).astype(np.float32)
    values[: n_packed * 7] = 0
    path = written(tmp_path / "a.h5", values, chunks=chunk, compression="lzf")
    np.testing.assert_array_equal(read_anyhow(path), values)
    if chunk == (7, 8):
        assert (read_here(path) is None) == (n_packed == 40)


def test_a_chunk_without_its_filter_that_has_an_odd_size_is_left_to_the_library(tmp_path: Path) -> None:
    """HDF5 2.0.0 takes the bytes that are there, without an error. What stands in the last value is its affair."""
    values = np.random.default_rng(0).standard_normal((40, WIDTH)).astype(np.float32)
    path = written(tmp_path / "a.h5", values, chunks=(4, 8), compression="lzf")
    with h5py.File(path, "a") as file:
        file["features"].id.write_direct_chunk((8, 8), values[8:12, 8:16].tobytes()[:-4], filter_mask=1)
    found = read_anyhow(path)
    values[11, 15] = found[11, 15]
    np.testing.assert_array_equal(found, values)
