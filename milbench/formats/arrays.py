"""NumPy files: `{slide}.npy`, or `{slide}.npz` with `features` or `feats` (or one array) and perhaps `coords`."""

from __future__ import annotations

import math
import os
import zipfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from milbench.errors import FeatureFileError
from milbench.formats import UNKNOWN, SlideFeatures, SlideHeader
from milbench.formats.inflate import MOST_INFLATED, inflated_entry
from milbench.formats.opening import failing_clearly, listed
from milbench.formats.shapes import as_bag, bag_shape, fitting, is_float, kind_of, misfit, tensor
from milbench.formats.unchanged import of_content, of_facts, once_per_content, remember, remembered

KEYS = ("features", "feats")
PIECE = 1 << 18
"""Bytes that are taken out of a file at a time: they stay in the cache until they are at their place."""

NPY = "NumPy header"
"""What is remembered of a `.npy` file."""

KNOWN_COMPRESSION = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes. Others have no such limit."""


class _Header(NamedTuple):
    """What a `.npy` file says of its array, whether its columns lie one behind the other, and where its first value does."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool
    start: int


def read_npy(path: Path) -> SlideFeatures:
    """Features [N, D] of one `.npy` file."""
    return SlideFeatures(as_bag(path, tensor(floats(path, load_array(path)))))


def head_npy(path: Path) -> SlideHeader:
    """Sizes of one `.npy` file, its values left on disk."""
    shape, dtype = shape_and_type(path)
    _refuse_others(path, shape, dtype)
    return SlideHeader(*bag_shape(path, shape), dtype.name)


def read_npz(path: Path) -> SlideFeatures:
    """Features [N, D] of one `.npz` file, and its coordinates if there are any."""
    with _failing_clearly(path), zipfile.ZipFile(path) as archive:
        names = _names(archive)
        features = as_bag(path, tensor(floats(path, _member(path, archive, _key(path, names)))))
        if "coords" not in names:
            return SlideFeatures(features)
        with archive.open("coords.npy") as file:
            shape, dtype, _ = told = _array_header(file)
            problem = misfit(shape, dtype.name, len(features))  # before anything is read
            if problem:
                return SlideFeatures(features, unit=UNKNOWN, coords_problem=problem)
            places = fitting(_body(path, archive, "coords", file, told), len(features), UNKNOWN)
        return SlideFeatures(features, places.coords, unit=UNKNOWN, coords_problem=places.problem)


@once_per_content
def head_npz(path: Path) -> SlideHeader:
    """Sizes of one `.npz` file, from the header of the array inside."""
    with _failing_clearly(path), zipfile.ZipFile(path) as archive:
        names = _names(archive)
        shape, dtype = _header(archive, key := _key(path, names))
        _refuse_odd_compression(path, archive, key)
        _refuse_others(path, shape, dtype)
        header = SlideHeader(*bag_shape(path, shape), dtype.name)
        if "coords" not in names:
            return header
        return header._replace(unit=UNKNOWN, coords_problem=misfit(*_told(archive, "coords"), header.n_patches))


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist()]


def _told(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], str]:
    shape, dtype = _header(archive, name)
    return shape, dtype.name


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of one array inside."""
    with archive.open(f"{name}.npy") as file:
        return _array_header(file)[:2]


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape and dtype of an array, and whether its columns lie one behind the other; `file` then stands at its first value."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = reader(file)
    return shape, dtype, by_column


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array `name` of an archive; never unpickled."""
    _refuse_odd_compression(path, archive, name)
    with archive.open(f"{name}.npy") as file:
        return _body(path, archive, name, file, _array_header(file))


def _body(
    path: Path,
    archive: zipfile.ZipFile,
    name: str,
    file: IO[bytes],
    told: tuple[tuple[int, ...], np.dtype[Any], bool],
) -> np.ndarray:
    """The array whose header was read from `file`, an archive's: opened once, since each opening inflates its beginning."""
    shape, dtype, by_column = told
    _refuse_odd_compression(path, archive, name)
    entry = archive.getinfo(f"{name}.npy")
    _refuse_unwritten(path, shape, dtype, min(entry.file_size, path.stat().st_size * MOST_INFLATED))
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    n_values, start = math.prod(shape), file.tell()
    whole = inflated_entry(archive, entry) if entry.file_size > PIECE else None
    if whole is not None and len(whole) == start + n_values * dtype.itemsize:
        stored = np.frombuffer(whole, dtype, n_values, start).reshape(shape[::-1] if by_column else shape)
    else:
        stored = np.empty(shape[::-1] if by_column else shape, dtype)
        _fill(file, memoryview(stored.reshape(-1).view(np.uint8).data))
    return stored.T if by_column else stored


def _fill(file: IO[bytes], memory: memoryview) -> None:
    """Read as many bytes as `memory` has, and the archive's checksum of them."""
    done = 0
    while done < len(memory):
        content = file.read(min(PIECE, len(memory) - done))
        if not content:
            raise ValueError("it ends within an array")
        memory[done : done + len(content)] = content
        done += len(content)
    file.read(1)  # at its end the checksum is looked at


def _refuse_odd_compression(path: Path, archive: zipfile.ZipFile, name: str) -> None:
    if archive.getinfo(f"{name}.npy").compress_type not in KNOWN_COMPRESSION:
        raise FeatureFileError(f"{path} is compressed as NumPy never does. Save it again with numpy.savez_compressed.")


def shape_and_type(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """What the header of a `.npy` file declares, its values left on disk."""
    with _failing_clearly(path):
        known = remembered(of_content(path, NPY))
        if known is None:
            with path.open("rb") as file:
                known = _sound_header(path, file)
        return known[:2]  # type: ignore[no-any-return]


def load_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """The array of a `.npy` file, mapped or read; never unpickled."""
    with _failing_clearly(path), path.open("rb") as file:
        shape, dtype, by_column, start = _sound_header(path, file)
        if mapped:
            return np.memmap(path, dtype, "r", start, shape, "F" if by_column else "C")
        file.seek(start)
        stored = np.fromfile(file, dtype, math.prod(shape))
        if stored.size != math.prod(shape):
            raise ValueError("it ends within an array")
        return stored.reshape(shape[::-1]).T if by_column else stored.reshape(shape)


def load_split(path: Path, n_front: int) -> tuple[np.ndarray, np.ndarray]:
    """The first columns and the others of a `.npy` file of floats, each an array of its own; both 2-D, or the first empty.

    It is read piece by piece: the disk is never waited for at each page, and a piece stays in the processor's cache until its
    columns are at their places. A file in memory takes 0.85 of the CPU time that it takes mapped, although it is copied twice.
    """
    with _failing_clearly(path), path.open("rb") as file:
        shape, dtype, by_column, start = _sound_header(path, file)
        file.seek(start)
        if is_float(dtype) and len(shape) == 2 and shape[1] > n_front and not by_column:
            return _split(file, (shape[0], shape[1]), dtype, n_front)
    stored = np.asarray(floats(path, load_array(path, mapped=True)))
    if stored.ndim != 2 or stored.shape[1] <= n_front:
        return np.empty((0, 0), stored.dtype), np.empty((0, 0), stored.dtype)
    return stored[:, :n_front].copy("C"), stored[:, n_front:].copy("C")


def _split(
    file: IO[bytes], shape: tuple[int, int], dtype: np.dtype[Any], n_front: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first columns and the others of an array that lies row by row."""
    n_rows, width = shape
    front, others = np.empty((n_rows, n_front), dtype), np.empty((n_rows, width - n_front), dtype)
    piece = np.empty((min(n_rows, max(1, PIECE // (width * dtype.itemsize))), width), dtype)
    for first in range(0, n_rows, max(1, len(piece))):
        rows = piece[: n_rows - first]
        if file.readinto(rows.reshape(-1).view(np.uint8).data) != rows.nbytes:  # type: ignore[attr-defined]
            raise ValueError("it ends within an array")
        front[first : first + len(rows)] = rows[:, :n_front]
        others[first : first + len(rows)] = rows[:, n_front:]
    return front, others


def _sound_header(path: Path, file: IO[bytes]) -> _Header:
    """The header of the array that `file` holds, if it holds as many numbers as that declares."""
    key = of_facts(os.fstat(file.fileno()), NPY)
    if (known := remembered(key)) is not None:
        return known  # type: ignore[no-any-return]
    shape, dtype, by_column = _array_header(file)
    start = file.tell()
    _refuse_unwritten(path, shape, dtype, os.fstat(file.fileno()).st_size - start)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    header = _Header(shape, dtype, by_column, start)
    remember(key, header)
    return header


def _refuse_unwritten(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], most_bytes: int) -> None:
    """A few bytes can declare any number of patches, for which memory would be set aside before they are read."""
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize > most_bytes:
        raise FeatureFileError(
            f"{path} declares {shape} values of {dtype}, which a file of {path.stat().st_size:,} bytes cannot hold. "
            "Extract this slide again."
        )


def load_member(path: Path, name: str) -> np.ndarray:
    """The array `name` of a `.npz` file; never unpickled."""
    with _failing_clearly(path), zipfile.ZipFile(path) as archive:
        return _member(path, archive, name)


def floats(path: Path, array: np.ndarray) -> np.ndarray:
    """`array`, if it is one of floats.

    Raises
    ------
    FeatureFileError : another dtype, or a single number.
    """
    _refuse_others(path, array.shape, array.dtype)
    return array


def _refuse_others(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not is_float(dtype) or not shape:
        raise FeatureFileError(
            f"{path} holds {kind_of(dtype)} of shape {shape}; expected float16 or float32 (patches, width). "
            "Extract this slide again."
        )


def _key(path: Path, names: list[str]) -> str:
    others = [name for name in names if name != "coords"]
    known = [name for name in KEYS if name in names] or (others if len(others) == 1 else [])
    if not known:
        raise FeatureFileError(f"{path} holds {listed(names)}; expected an array called 'features'.")
    return known[0]


def _failing_clearly(path: Path) -> AbstractContextManager[None]:
    return failing_clearly(path, "NumPy file", "Extract this slide again, or save it with allow_pickle=False.")
