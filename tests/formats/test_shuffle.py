"""Shuffle: undone for several chunks at once, to the bytes that the HDF5 library gives."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from milbench.formats import chunks
from milbench.formats.shuffle import unshuffled


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("has_memory", [False, True])
def test_bytes_come_back_value_by_value(n_bytes: int, *, has_memory: bool) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (5, n_bytes, 9001), np.uint8)
    memory = memoryview(bytearray(stored.size)) if has_memory else None
    found = unshuffled(stored, memory)
    np.testing.assert_array_equal(found, stored.transpose(0, 2, 1))
    assert memory is None or bytes(memory) == found.tobytes()


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", "u1"])
@pytest.mark.parametrize("shape", [(37, 24), (400, 24), (61,), (9, 8, 6)], ids=str)
@pytest.mark.parametrize("chunk", [(1, 24), (7, 8), (7, 24), (7, 5)], ids=str)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("piece", [1000, 1 << 18])
def test_pieces_of_several_chunks_hold_the_librarys_values(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    shape: tuple[int, ...],
    chunk: tuple[int, int],
    piece: int,
    *,
    shuffle: bool,
) -> None:
    monkeypatch.setattr(chunks, "PIECE", piece)
    monkeypatch.setattr(chunks, "BATCH", 5000)
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    its_chunk = tuple(map(min, (*chunk, 4), shape))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", data=values, chunks=its_chunk, compression="gzip", shuffle=shuffle)
    with h5py.File(tmp_path / "a.h5") as file:
        found = np.empty(shape, dtype)
        assert chunks.read_chunks(file["features"], found)
        assert found.tobytes() == file["features"].astype(dtype)[()].tobytes()


@pytest.mark.parametrize("shuffle", [False, True])
def test_chunks_side_by_side_are_placed_several_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, shuffle: bool
) -> None:
    placed: list[int] = []
    place = chunks._place
    monkeypatch.setattr(chunks, "_place", lambda values, *rest: (placed.append(len(values)), place(values, *rest)))
    values = np.random.default_rng(0).standard_normal((100, 64)).astype(np.float16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", data=values, chunks=(50, 8), compression="gzip", shuffle=shuffle)
    with h5py.File(tmp_path / "a.h5") as file:
        assert chunks.read_chunks(file["features"], np.empty((100, 64), np.float16))
    assert placed == [8, 8]
