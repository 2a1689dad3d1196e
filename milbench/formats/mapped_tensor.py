"""Mapped tensor: where a `.pt` file keeps the numbers of a tensor, so that they can be mapped again without its pickle.

torch takes half a millisecond for the pickle of one tensor. A run reads a slide once per epoch, and the file says the same
each time.
"""

from __future__ import annotations

import os
import struct
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from milbench.formats.inflate import LOCAL_BYTES

BYTE_ORDER = "/byteorder"
"""The part of a file that tells how its numbers are written."""


class MappedTensor(NamedTuple):
    """A tensor in a file: bytes of the file, where the tensor's storage starts and how long it is, and how it lies in there."""

    file_bytes: int
    start: int
    n_bytes: int
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def located(path: Path, tensor: Tensor) -> MappedTensor | None:
    """Where `path` keeps a tensor that torch mapped from it; None if that is not certain."""
    if tensor.is_meta or tensor.is_quantized or tensor.is_neg() or not tensor.ndim or not tensor.numel():
        return None
    n_bytes = tensor.untyped_storage().nbytes()
    with zipfile.ZipFile(path) as archive:
        orders = [archive.read(entry) for entry in archive.infolist() if entry.filename.endswith(BYTE_ORDER)]
        parts = [entry for entry in archive.infolist() if entry.file_size == n_bytes]
    if len(parts) != 1 or parts[0].compress_type != zipfile.ZIP_STORED or orders not in ([], [sys.byteorder.encode()]):
        return None
    with path.open("rb") as file:
        file.seek(parts[0].header_offset)
        told = struct.unpack_from("<HH", file.read(LOCAL_BYTES), 26)
        start = parts[0].header_offset + LOCAL_BYTES + sum(told)
        n_file = os.fstat(file.fileno()).st_size
    offset, shape, stride = int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()
    found = MappedTensor(n_file, start, n_bytes, tensor.dtype, offset, shape, stride)
    is_in_file = start + n_bytes <= n_file and start % tensor.element_size() == 0
    return found if is_in_file and _is_the_same(mapped(path, found), tensor) else None


def mapped(path: Path, place: MappedTensor) -> Tensor:
    """The tensor, its numbers read where they are used, as `torch.load(mmap=True)` gives it; a change of it stays in memory."""
    storage = torch.UntypedStorage.from_file(os.fspath(path), False, place.file_bytes)  # noqa: FBT003 - torch names it in C only
    part = storage[place.start : place.start + place.n_bytes]
    return torch.empty(0, dtype=place.dtype).set_(part, place.offset, place.shape, place.stride)


def _is_the_same(one: Tensor, other: Tensor) -> bool:
    """Whether the first and the last entries of two tensors hold the same bits."""
    return all(
        torch.equal(mine.contiguous().view(torch.uint8), theirs.contiguous().view(torch.uint8))
        for mine, theirs in ((one[:1], other[:1]), (one[-1:], other[-1:]))
    )
