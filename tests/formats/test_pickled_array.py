"""Arrays that torch saved are read without unpickling: the same numbers as torch reads, or left to torch."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from milbench.formats import pickled_array, tensors
from milbench.formats.pickled_array import array_of


def pickle_of(array: np.ndarray) -> bytes:
    """What `torch.save` writes of an array."""
    saved = io.BytesIO()
    torch.save(array, saved)
    with zipfile.ZipFile(saved) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (300, 70), (70_000, 1), (1, 256)])
@pytest.mark.parametrize("block", [2, 1000, pickled_array.BLOCK])
def test_every_byte_comes_back(monkeypatch: pytest.MonkeyPatch, dtype: str, shape: tuple[int, int], block: int) -> None:
    if block == 2 and np.prod(shape) > 1000:
        pytest.skip(
            "a block per letter of a large array takes seconds, and tries no other path than that of a small one"
        )
    monkeypatch.setattr(pickled_array, "BLOCK", block)
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.random.default_rng(0).integers(0, 256, n_bytes, dtype=np.uint8).tobytes()
    array = np.frombuffer(raw, dtype).reshape(shape)
    found = array_of(memoryview(pickle_of(array)))
    assert found is not None
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4),
        np.ones((3, 4), np.dtype(">f4")),
        np.asfortranarray(np.random.default_rng(0).random((3, 4))),
        np.ones(5),
        np.ones((2, 3, 4)),
        np.ones((0, 4)),
    ],
    ids=["whole numbers", "big-endian", "by column", "one axis", "three axes", "empty"],
)
def test_anything_else_is_left_to_torch_or_the_same(array: np.ndarray) -> None:
    found = array_of(memoryview(pickle_of(array)))
    assert found is None or (found.shape == array.shape and found.tobytes() == array.tobytes())


def test_a_pickle_that_was_changed_anywhere_is_left_to_torch_or_holds_other_numbers_only() -> None:
    whole = pickle_of(np.random.default_rng(1).random((4, 3)).astype(np.float32))
    for place in range(len(whole)):
        for change in (1, 64, 128):
            odd = bytearray(whole)
            odd[place] ^= change
            found = array_of(memoryview(bytes(odd)))
            assert found is None or found.size == 12
    for cut in range(len(whole)):
        assert array_of(memoryview(whole[:cut])) is None


@pytest.mark.parametrize("odd", [b"\xc3", b"\xc0\x80", b"\xc4\x80", b"\xc2\x41", b"\x80\x41", b"\xf0\x90\x80\x80"])
def test_text_that_stands_for_no_bytes_is_refused(odd: bytes) -> None:
    memory = np.empty(len(odd.decode("utf-8", "ignore")) or 1, np.uint8)
    assert not pickled_array._undo(np.frombuffer(odd, np.uint8), memory)


def test_a_file_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float16)
    torch.save(array, tmp_path / "a.pt")
    content = tensors.open_pt(tmp_path / "a.pt")
    assert content.kind == "array"
    assert torch.equal(content.features, torch.from_numpy(array))
    damaged = bytearray((tmp_path / "a.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "b.pt").write_bytes(damaged)
    with pytest.raises(tensors.FeatureFileError, match=r"b\.pt is no readable \.pt file"):
        tensors.open_pt(tmp_path / "b.pt")
