"""A heap that was zeroed in part is refused before the library walks through it without end."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from milbench.errors import FeatureFileError
from milbench.formats.global_heap import HEAP, refuse_endless_heap
from milbench.formats.linked import files_of


def file_with_text(path: Path, *, is_last: bool, n_patches: int = 50_000) -> Path:
    """An HDF5 file with an attribute of text, whose heap lies before its features or behind them."""
    with h5py.File(path, "w") as file:
        if not is_last:
            file.attrs["encoder"] = "uni2"
        file["feats"] = np.zeros((n_patches, 8), np.float32)
        file.attrs["unit"] = "um"
    return path


def zero_the_heap(path: Path, keep: int) -> None:
    """Zero all but the first bytes of the heap."""
    content = bytearray(path.read_bytes())
    place = content.index(HEAP) + 16 + keep
    content[place : place + 200] = bytes(200)
    path.write_bytes(content)


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("n_patches", [3, 50_000])
def test_a_heap_that_is_whole_is_read(tmp_path: Path, is_last: bool, n_patches: int) -> None:
    path = file_with_text(tmp_path / "a.h5", is_last=is_last, n_patches=n_patches)
    refuse_endless_heap(path)
    assert files_of(path) == (path,)


@pytest.mark.parametrize("keep", [0, 24])
@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("n_patches", [3, 50_000])
def test_a_heap_with_a_step_of_no_length_is_refused(tmp_path: Path, n_patches: int, is_last: bool, keep: int) -> None:
    path = file_with_text(tmp_path / "a.h5", is_last=is_last, n_patches=n_patches)
    zero_the_heap(path, keep)
    with pytest.raises(FeatureFileError, match=r"a\.h5 is damaged: a part of it holds nothing but zeros"):
        refuse_endless_heap(path)
    with pytest.raises(FeatureFileError, match="nothing but zeros"):
        files_of(path)


@pytest.mark.parametrize("content", [b"", b"short", HEAP, b"\x89HDF\r\n\x1a\n\x09", bytes(200_000)])
def test_what_is_no_file_of_hdf5_is_left_to_the_library(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    refuse_endless_heap(tmp_path / "a.h5")
