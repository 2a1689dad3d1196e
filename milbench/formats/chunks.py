"""Chunks: a chunked HDF5 dataset read in few large reads, and inflated by several threads at once.

The library reads chunk after chunk under one lock that all threads of a process share: 2.6 µs for each patch of TRIDENT's
files, and gzip on one core. Here the places of chunks come from the file's index, neighbours are read at once, and gzip is undone
outside of Python's lock. The values are the same. Whatever is not known here is left to the library.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from math import prod
from typing import NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from milbench.formats.chunk_index import ChunkIndex, chunk_index
from milbench.formats.inflate import Buffer, DamagedStream, each_inflated, inflated

SCATTERED = 4
"""Chunks that lie together, on average, below which a file of small chunks is no faster here than in the library."""

SMALL_CHUNK = 16_384
"""Bytes of a chunk that is not worth a read of its own."""

BATCH = 1 << 20
"""Bytes of chunks that one thread reads, inflates and places at a time."""

LARGE_CHUNK = 4 << 20
"""Bytes of a chunk of which one at a time is in memory, as in the library."""

MOST_RUNS = 1 << 20
"""Runs of chunks that are remembered, of all datasets: 16 MB."""

MOST_THREADS = 8
INFLATED, SHUFFLED = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
LEFT_OUT = h5py.h5z.FILTER_LZF
"""LZF is left out of chunks that it would not make smaller: most chunks of features without zeros. Only such chunks are read here."""

MOST_BY_LIBRARY = 0.25
"""Share of bands from which on the library reads all: one call for each takes longer."""

_pool: tuple[int, int, ThreadPoolExecutor] | None = None
_starting = threading.Lock()
_own = threading.local()


class _Dataset(NamedTuple):
    """What is known of a dataset: descriptor of its file, bytes of a value, shape of a chunk, filters in the order of writing."""

    descriptor: int
    itemsize: int
    chunk: tuple[int, ...]
    filters: tuple[int, ...]

    @property
    def chunk_bytes(self) -> int:
        return prod(self.chunk) * self.itemsize

    @property
    def all_left_out(self) -> int:
        """Mask of a chunk that lies as it is: no filter, or each left out."""
        return (1 << len(self.filters)) - 1


def read_chunks(stored: h5py.Dataset, array: np.ndarray) -> bool:
    """Fill `array`, of the shape and the dtype of `stored`, from its chunks; False = ask the library, which tells what is wrong.

    `array` has the byte order of the file.
    """
    known = _known(stored)
    if known is None:
        return False
    place = _place_of(stored, known)
    try:
        if place in _remembered:
            return _read_runs(known, _remembered[place], array)
    except (OSError, _OddChunk):
        return False
    if LEFT_OUT not in known.filters and hasattr(os, "posix_fadvise"):
        # the disk reads once, not once for each node of the index; most of LZF is left to the library, which waits less by itself
        os.posix_fadvise(known.descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
    try:
        index = chunk_index(stored, known.descriptor)
    except RuntimeError:  # HDF5's word for a damaged tree; what reads no tree may still be sound
        return False
    if index is None:
        return False
    try:
        is_bare = (index.masks == known.all_left_out) & (index.sizes == known.chunk_bytes)
        if is_bare.all() and known.chunk[1:] == array.shape[1:]:
            runs = _runs(known, index)
            if runs is None:
                return False
            _remember(place, runs)
            return _read_runs(known, runs, array)
        return _read_bands(stored, known, index, is_bare, array) or _read_batches(known, index, array)
    except (OSError, DamagedStream, _OddChunk):
        return False


class _OddChunk(Exception):
    """A chunk has another size than it should have."""


def _known(stored: h5py.Dataset) -> _Dataset | None:
    """What is known of a dataset that can be read here, else None."""
    file = stored.file
    if stored.chunks is None or stored.is_virtual or (file.driver, file.mode) != ("sec2", "r"):
        return None
    if stored.dtype.kind not in "fiu" or stored.id.get_type() != h5py.h5t.py_create(stored.dtype):
        return None  # h5py converts
    created = stored.id.get_create_plist()
    filters = tuple(created.get_filter(place)[0] for place in range(created.get_nfilters()))
    if filters not in ((), (INFLATED,), (SHUFFLED, INFLATED), (LEFT_OUT,)) or not hasattr(os, "preadv"):
        return None
    return _Dataset(file.id.get_vfd_handle(), stored.dtype.itemsize, stored.chunks, filters)


# ---- rows as they lie ----------------------------------------------------------------------------


class _Runs(NamedTuple):
    """Chunks that lie one behind the other: the first row of the index of each run, and where it starts in the file."""

    firsts: NDArray[np.int64]
    addresses: NDArray[np.int64]


_remembered: dict[tuple[int | bytes, ...], _Runs] = {}
"""Runs by dataset: a run reads a slide once per epoch, and asks the file's index once. 10,000 of TRIDENT's chunks are 180 runs."""


def _place_of(stored: h5py.Dataset, known: _Dataset) -> tuple[int | bytes, ...]:
    """What tells a dataset from all others, and from itself after a change."""
    facts = os.fstat(known.descriptor)
    return (
        facts.st_dev,
        facts.st_ino,
        facts.st_size,
        facts.st_mtime_ns,
        facts.st_ctime_ns,
        h5py.h5i.get_name(stored.id),
    )


def _remember(place: tuple[int | bytes, ...], runs: _Runs) -> None:
    with _starting:
        if sum(len(each.firsts) for each in _remembered.values()) + len(runs.firsts) > MOST_RUNS:
            _remembered.clear()
        _remembered[place] = runs


def _runs(known: _Dataset, index: ChunkIndex) -> _Runs | None:
    """Chunks of whole rows that lie as they are; None where the library is no slower."""
    breaks = np.flatnonzero(np.diff(index.addresses) != known.chunk_bytes) + 1
    if known.chunk_bytes < SMALL_CHUNK and len(breaks) * SCATTERED > len(index.sizes):
        return None
    firsts = np.concatenate([[0], breaks])
    return _Runs(firsts, index.addresses[firsts])


def _read_runs(known: _Dataset, runs: _Runs, array: np.ndarray) -> bool:
    """Each run goes straight to its place."""
    memory = _bytes_of(array)
    bounds = (runs.firsts * known.chunk_bytes).tolist()
    for (first, last), address in zip(pairwise([*bounds, len(memory)]), runs.addresses.tolist(), strict=True):
        _fill(known.descriptor, memory[first:last], address)  # the last chunk may reach beyond the array
    return True


def _bytes_of(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8).data)


def _fill(descriptor: int, part: memoryview, address: int) -> None:
    """Read exactly as many bytes as `part` has."""
    done = 0
    while done < len(part):
        read = os.preadv(descriptor, [part[done:]], address + done)
        if not read:
            raise _OddChunk
        done += read


# ---- chunks side by side -------------------------------------------------------------------------


def _read_bands(
    stored: h5py.Dataset, known: _Dataset, index: ChunkIndex, is_bare: NDArray[np.bool_], array: np.ndarray
) -> bool:
    """Chunks that make whole rows together, placed row by row instead of chunk by chunk: 0.6 of the time on float16.

    The library reads bands with a filter. False = too many of them.
    """
    n_rows, width = known.chunk[0], known.chunk[-1]
    if array.ndim != 2 or array.shape[1] % width or n_rows * array.shape[1] * known.itemsize > LARGE_CHUNK:
        return False
    side_by_side = array.shape[1] // width
    is_band: NDArray[np.bool_] = np.all(is_bare.reshape(-1, side_by_side), axis=1)
    if is_band.mean() <= 1 - MOST_BY_LIBRARY:
        return False
    block = np.empty((side_by_side, n_rows, width), array.dtype)
    pieces = [_bytes_of(piece) for piece in block]
    for band, (addresses, is_so) in enumerate(
        zip(index.addresses.reshape(-1, side_by_side), is_band.tolist(), strict=True)
    ):
        part = slice(band * n_rows, (band + 1) * n_rows)  # the last band may reach beyond the array
        if is_so:
            for address, piece in zip(addresses.tolist(), pieces, strict=True):
                _fill(known.descriptor, piece, address)
            rows = array[part].reshape(-1, side_by_side, width)
            rows[...] = block[:, : len(rows)].transpose(1, 0, 2)
        else:
            stored.read_direct(array, np.s_[part, :], np.s_[part, :])
    return True


# ---- chunks that are inflated or placed ----------------------------------------------------------


def _read_batches(known: _Dataset, index: ChunkIndex, array: np.ndarray) -> bool:
    """All other chunks: each batch is read at once, inflated and placed by one thread."""
    n_threads = min(torch.get_num_threads(), MOST_THREADS) if known.chunk_bytes <= LARGE_CHUNK else 1
    batches = list(_batches(known, index))
    if n_threads == 1 or len(batches) == 1 or INFLATED not in known.filters:
        for rows in batches:
            _read_batch(known, index, rows, array)
        return True
    waiting = [_threads(n_threads).submit(_read_batch, known, index, rows, array) for rows in batches]
    try:
        for each in waiting:
            each.result()
    finally:  # none may write after the array has been given back
        for each in waiting:
            each.cancel()
        for each in waiting:
            each.cancelled() or each.exception()
    return True


def _threads(n_threads: int) -> ThreadPoolExecutor:
    """One pool for all reads of this process, so that bags that are read side by side do not add up. A fork starts its own."""
    global _pool
    with _starting:
        if _pool is None or _pool[:2] != (os.getpid(), n_threads):
            _pool = (os.getpid(), n_threads, ThreadPoolExecutor(n_threads, "milbench-inflate"))
        return _pool[2]


def _batches(known: _Dataset, index: ChunkIndex) -> Iterator[range]:
    """Rows of the index, as many at a time as make `BATCH` bytes."""
    step = max(1, BATCH // known.chunk_bytes)
    yield from (range(first, min(first + step, len(index.sizes))) for first in range(0, len(index.sizes), step))


def _read_batch(known: _Dataset, index: ChunkIndex, rows: range, array: np.ndarray) -> None:
    part = slice(rows.start, rows.stop)
    masks = index.masks[part]
    contents = _contents(known.descriptor, index, rows)
    is_of_rows = known.chunk[1:] == array.shape[1:]
    if is_of_rows and known.filters == (INFLATED,) and not masks.any() and known.chunk_bytes <= BATCH:
        _inflate_rows(known, rows, contents, array)
        return
    places = index.places[part].tolist()
    raw = zip(places, map(partial(_undone, known), contents, masks.tolist()), strict=True)
    if is_of_rows:
        _place_rows(known, raw, array)
        return
    for place, content in raw:
        target = array[tuple(slice(start, start + step) for start, step in zip(place, known.chunk, strict=True))]
        values = np.frombuffer(content, array.dtype).reshape(known.chunk)
        target[...] = values[tuple(slice(length) for length in target.shape)]  # a chunk may reach beyond the array


def _place_rows(known: _Dataset, raw: Iterator[tuple[list[int], Buffer]], array: np.ndarray) -> None:
    """Chunks of whole rows, byte by byte: 3 µs less for each of TRIDENT's."""
    memory = _bytes_of(array)
    row_bytes = known.chunk_bytes // known.chunk[0]
    for place, content in raw:
        part = memory[place[0] * row_bytes : place[0] * row_bytes + known.chunk_bytes]
        part[:] = memoryview(content)[: len(part)]


def _inflate_rows(known: _Dataset, rows: range, contents: Iterable[memoryview], array: np.ndarray) -> None:
    """The same, with nothing in the loop but inflating and a copy. Whatever else Python does there, one thread at a time does.

    The index names all chunks in order, so that each follows the one before.
    """
    memory, n_bytes = _bytes_of(array), known.chunk_bytes
    start = rows.start * n_bytes
    for raw in each_inflated(contents, n_bytes):
        if len(raw) != n_bytes:
            raise _OddChunk
        stop = start + n_bytes
        memory[start:stop] = raw if stop <= len(memory) else raw[: len(memory) - start]
        start = stop


def _contents(descriptor: int, index: ChunkIndex, rows: range) -> Iterable[memoryview]:
    """Stored bytes of each chunk, read at once if they lie close together. A chunk is valid until the next one is asked for."""
    part = slice(rows.start, rows.stop)
    addresses, sizes = index.addresses[part], index.sizes[part]
    start, stop = int(addresses.min()), int((addresses + sizes).max())
    if stop - start <= 2 * int(sizes.sum()):
        block = _scratch(stop - start)
        _fill(descriptor, block, start)
        begins = addresses - start
        return [block[begin:end] for begin, end in zip(begins.tolist(), (begins + sizes).tolist(), strict=True)]
    return _one_by_one(descriptor, addresses.tolist(), sizes.tolist())


def _one_by_one(descriptor: int, addresses: list[int], sizes: list[int]) -> Iterator[memoryview]:
    for address, size in zip(addresses, sizes, strict=True):
        block = _scratch(size)
        _fill(descriptor, block, address)
        yield block


def _scratch(n_bytes: int) -> memoryview:
    """Memory of this thread, which stays in its cache from batch to batch. Larger pieces are not kept."""
    if n_bytes > 2 * BATCH:
        return memoryview(np.empty(n_bytes, np.uint8).data)
    kept = getattr(_own, "memory", None)
    if kept is None or len(kept) < n_bytes:
        kept = _own.memory = memoryview(np.empty(n_bytes, np.uint8).data)
    return kept[:n_bytes]


def _undone(known: _Dataset, content: memoryview, mask: int) -> Buffer:
    """Bytes of one chunk, its filters undone in the reverse order; a bit of `mask` tells that one was left out."""
    raw: Buffer = content
    for bit, kind in reversed(list(enumerate(known.filters))):
        if mask >> bit & 1:
            continue
        if kind == LEFT_OUT:  # the library undoes it
            raise _OddChunk
        raw = inflated(raw, known.chunk_bytes) if kind == INFLATED else _unshuffled(raw, known.itemsize)
    if len(raw) != known.chunk_bytes:
        raise _OddChunk
    return raw


def _unshuffled(content: Buffer, itemsize: int) -> memoryview:
    """Bytes that lay together by their place in a value, value by value. Column by column: 5 times faster than `.T` for float16."""
    if len(content) % itemsize:
        raise _OddChunk
    planes = np.frombuffer(content, np.uint8).reshape(itemsize, -1)
    if itemsize == 2:  # as one number each: half the time again
        pairs = planes[1].astype("<u2")
        pairs <<= 8
        pairs |= planes[0]
        return _bytes_of(pairs)
    values = np.empty((planes.shape[1], itemsize), np.uint8)
    for byte, plane in enumerate(planes):
        values[:, byte] = plane
    return _bytes_of(values)
