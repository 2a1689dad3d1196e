"""Mapped tensor: where a `.pt` or `.safetensors` file keeps a tensor's numbers, so that they can be mapped again without its header.

torch takes half a millisecond for the pickle of one tensor, and safetensors 30 µs for a pack's header. A run reads a slide once
per epoch, and the file says the same each time.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import zipfile
from collections.abc import Mapping
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
    try:
        found = _in_zip(path, tensor)
        return found if found is not None and _is_the_same(mapped(path, found), tensor) else None
    except Exception:  # noqa: BLE001 - torch has read it, and is not as strict about headers: BadZipFile, UnicodeDecodeError, OSError
        return None


def _in_zip(path: Path, tensor: Tensor) -> MappedTensor | None:
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
    is_in_file = start + n_bytes <= n_file and start % tensor.element_size() == 0
    return MappedTensor(n_file, start, n_bytes, tensor.dtype, offset, shape, stride) if is_in_file else None


def located_in_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, MappedTensor] | None:
    """Where `path` keeps the tensors that safetensors mapped from it, by their names; None if that is not certain of each."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, n_file = json.loads(file.read(length)), os.fstat(file.fileno()).st_size
    found = {}
    for name, tensor in tensors.items():
        begin, end = header[name]["data_offsets"]
        start = 8 + length + begin
        place = MappedTensor(n_file, start, end - begin, tensor.dtype, 0, tuple(tensor.shape), tensor.stride())
        is_whole = end - begin == tensor.numel() * tensor.element_size() > 0 and tensor.is_contiguous()
        if not is_whole or start % tensor.element_size() or not _is_the_same(mapped(path, place), tensor):
            return None
        found[name] = place
    return found


def mapped(path: Path, place: MappedTensor) -> Tensor:
    """The tensor, its numbers read where they are used, as `torch.load(mmap=True)` gives it; a change of it stays in memory."""
    return all_mapped(path, {"": place})[""]


def all_mapped(path: Path, places: Mapping[str, MappedTensor]) -> dict[str, Tensor]:
    """The same of several tensors of one file, which is mapped once."""
    n_bytes = next(iter(places.values())).file_bytes
    storage = torch.UntypedStorage.from_file(os.fspath(path), False, n_bytes)  # noqa: FBT003 - torch names it in C only
    return {
        name: torch.empty(0, dtype=place.dtype).set_(
            storage[place.start : place.start + place.n_bytes], place.offset, place.shape, place.stride
        )
        for name, place in places.items()
    }


def _is_the_same(one: Tensor, other: Tensor) -> bool:
    """Whether the first and the last entries of two tensors hold the same bits."""
    return all(
        torch.equal(mine.contiguous().view(torch.uint8), theirs.contiguous().view(torch.uint8))
        for mine, theirs in ((one[:1], other[:1]), (one[-1:], other[-1:]))
    )
