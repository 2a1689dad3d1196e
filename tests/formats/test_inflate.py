"""Inflate: the same bytes with libdeflate and with zlib, and the same messages where a file is damaged."""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milbench.errors import FeatureFileError
from milbench.formats import inflate, open_features
from milbench.formats.chunks import read_chunks
from milbench.formats.inflate import SHORT, DamagedStream, inflate_into, inflated


@pytest.fixture(params=["deflate", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "zlib":
        monkeypatch.setattr(inflate, "deflate", None)
    else:
        assert inflate.deflate is not None, "the package deflate is a dependency, and is not installed"
    return request.param


def features(n_rows: int = 3000, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n_rows, width)).astype(np.float16)


@given(content=st.binary(min_size=1, max_size=2000), level=st.integers(0, 9))
def test_a_stream_gives_what_was_compressed_with_either_library(content: bytes, level: int) -> None:
    packed = zlib.compress(content, level)
    assert bytes(inflated(packed, len(content))) == content
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inflate, "deflate", None)
        assert bytes(inflated(packed, len(content))) == content


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    "change",
    [
        lambda packed: packed[:-1],
        lambda packed: packed[:-1] + bytes([packed[-1] ^ 1]),  # the checksum
        lambda packed: packed[:20],
        lambda packed: b"",
        lambda packed: b"\0" * 30,
        lambda packed: zlib.compress(b"a" * 99),
        lambda packed: zlib.compress(b"a" * 101),
    ],
)
def test_a_stream_that_is_damaged_or_has_another_length_is_refused(change: object) -> None:
    packed = change(zlib.compress(np.random.default_rng(0).bytes(100)))  # type: ignore[operator]
    with pytest.raises(DamagedStream):
        inflated(packed, 100)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("n_bytes", [1, 100, SHORT, SHORT + 1])
@pytest.mark.parametrize("cut_off", [0, 1, 40])
def test_many_streams_lie_one_behind_the_other_and_the_last_may_reach_beyond(n_bytes: int, cut_off: int) -> None:
    rows = [bytes([value]) * n_bytes for value in range(1, 6)]
    memory = bytearray(5 * n_bytes + 3 - min(cut_off, n_bytes))
    inflate_into(memoryview(memory), map(zlib.compress, rows), 5, n_bytes)
    expected = b"".join(rows) + bytes(3)
    assert memory == expected[: len(memory)]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("n_bytes", [100, SHORT + 1])
@pytest.mark.parametrize(
    "odd",
    [
        lambda row: zlib.compress(row)[:-1],
        lambda row: zlib.compress(row[:-1]),
        lambda row: zlib.compress(row + b"a"),
        lambda row: b"",
    ],
)
def test_one_odd_stream_of_many_is_refused_and_the_next_call_is_right(
    odd: Callable[[bytes], bytes], n_bytes: int
) -> None:
    row, memory = b"b" * n_bytes, memoryview(bytearray(3 * n_bytes))
    for place in range(3):
        with pytest.raises(DamagedStream):
            inflate_into(memory, [odd(row) if each == place else zlib.compress(row) for each in range(3)], 3, n_bytes)
        inflate_into(memory, [zlib.compress(row)] * 3, 3, n_bytes)
        assert memory == row * 3


@pytest.mark.usefixtures("library")
def test_a_chunk_that_holds_fewer_bytes_than_a_row_is_left_to_the_library(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("features", (4, 64), "f2", chunks=(1, 64), compression="gzip")
        for row in range(4):
            stored.id.write_direct_chunk((row, 0), zlib.compress(bytes(128 - row)))
        file.flush()
    with h5py.File(tmp_path / "a.h5") as file:
        assert not read_chunks(file["features"], np.empty((4, 64), np.float16))


@pytest.mark.usefixtures("library")
def test_a_length_that_the_package_would_cut_off_goes_to_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflate, "MOST_AT_ONCE", 9)
    assert bytes(inflated(zlib.compress(b"a" * 10), 10)) == b"a" * 10


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("chunk", [(1, 64), (100, 64), (100, 16)], ids=str)
@pytest.mark.parametrize("shuffle", [False, True])
def test_hdf5_with_gzip_reads_the_same_with_either_library(
    tmp_path: Path, chunk: tuple[int, int], *, shuffle: bool
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", data=features(), chunks=chunk, compression="gzip", shuffle=shuffle)
    assert np.array_equal(open_features(tmp_path).load("a").features.numpy(), features())


@pytest.mark.usefixtures("library")
def test_a_wrong_checksum_in_hdf5_is_told_by_the_message_of_the_library(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("features", data=features(), chunks=(100, 64), compression="gzip")
        place = stored.id.get_chunk_info(3)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[place.byte_offset + place.size - 1] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(FeatureFileError, match=r"a\.h5 is no readable HDF5 file \(.*filter returned failure"):
        open_features(tmp_path).load("a")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_compressed_archive_of_numpy_reads_the_same_with_either_library(tmp_path: Path, order: str) -> None:
    coords = np.arange(6000).reshape(3000, 2)
    np.savez_compressed(tmp_path / "a.npz", features=np.asarray(features(), order=order), coords=coords)
    found = open_features(tmp_path).load("a")
    assert np.array_equal(found.features.numpy(), features())
    assert found.coords is not None
    assert np.array_equal(found.coords.numpy(), coords)
    found.features[0] = 0  # it is the bag's own memory


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("how", ["checksum", "content", "header"])
def test_a_damaged_archive_is_told_by_the_message_of_zipfile(tmp_path: Path, how: str) -> None:
    np.savez_compressed(tmp_path / "a.npz", features=features())
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        directory = archive.start_dir
        assert archive.infolist()[0].compress_type == zipfile.ZIP_DEFLATED
    content = bytearray((tmp_path / "a.npz").read_bytes())
    place = {"checksum": directory + 16, "content": directory - 1000, "header": 0}[how]
    content[place] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FeatureFileError, match=r"a\.npz is no readable NumPy file \("):
        open_features(tmp_path).load("a")
