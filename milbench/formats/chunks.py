"""Chunks: a chunked HDF5 dataset read in few large reads, and inflated by several threads at once.

The library reads chunk after chunk under one lock that all threads of a process share: 2.6 µs for each patch of TRIDENT's
files, and gzip on one core. Here the places of chunks come from the file's index, neighbours are read at once, and gzip is undone
outside of Python's lock. The values are the same. Whatever is not known here is left to the library.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice, pairwise
from math import prod
from typing import NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from milbench.formats.chunk_index import ChunkIndex, chunk_index
from milbench.formats.inflate import Buffer, DamagedStream, inflate_into, inflated
from milbench.formats.lock import lock_free_after_fork
from milbench.formats.parts import fill, in_threads, scratch
from milbench.formats.shuffle import unshuffled
from milbench.formats.unchanged import of_facts

SCATTERED = 4
"""Chunks that lie together, on average, below which a file of small chunks is no faster here than in the library."""

SMALL_CHUNK = 16_384
"""Bytes of a chunk that is not worth a read of its own."""

BATCH = 1 << 20
"""Bytes of chunks that one thread reads, inflates and places at a time."""

PIECE = 1 << 18
"""Bytes of chunks that are placed at a time: stored, inflated and ready, they stay in the cache of a core."""

LARGE_CHUNK = 4 << 20
"""Bytes of a chunk of which one at a time is in memory, as in the library."""

MOST_REMEMBERED = 1 << 20
"""Chunks, or runs of them, that are remembered of all datasets: 20 MB."""

INFLATED, SHUFFLED = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
LEFT_OUT = h5py.h5z.FILTER_LZF
"""LZF is left out of chunks that it would not make smaller: most chunks of features without zeros. Only such chunks are read here."""

MOST_BY_LIBRARY = 0.25
"""Share of bands from which on the library reads all: one call for each takes longer."""

_remembering = lock_free_after_fork()


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
    place = (*of_facts(os.fstat(known.descriptor)), h5py.h5i.get_name(stored.id))
    found = _remembered[place].found if place in _remembered else None
    if LEFT_OUT not in known.filters and not isinstance(found, _Runs) and hasattr(os, "posix_fadvise"):
        # the disk reads once, not once for each node of the index; most of LZF is left to the library, which waits less by itself
        os.posix_fadvise(known.descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
    if found is None:
        found = _looked_up(stored, known, array)
        if found is None:
            return False
        _remember(place, _Remembered(known, found))
    return _read(known, found, array, stored)


def remembered_chunks(as_it_is: tuple[object, ...], name: str) -> _Remembered | None:
    """What `read_chunks` found out of the dataset `name` of a file with this key (`of_facts`)."""
    return _remembered.get((*as_it_is, f"/{name}".encode()))


def read_remembered(descriptor: int, remembered: _Remembered, array: np.ndarray) -> bool:
    """The same as `read_chunks`, from the open file alone. To open it by the library takes a millisecond."""
    known = remembered.known._replace(descriptor=descriptor)
    if isinstance(remembered.found, ChunkIndex) and INFLATED not in known.filters:
        return False
    return _read(known, remembered.found, array)


def _read(known: _Dataset, found: _Runs | ChunkIndex, array: np.ndarray, stored: h5py.Dataset | None = None) -> bool:
    try:
        if isinstance(found, _Runs):
            return _read_runs(known, found, array)
        by_band = stored is not None and _read_bands(stored, known, found, array)
        return by_band or _read_batches(known, found, array)
    except (OSError, EOFError, DamagedStream, _OddChunk):
        return False


def _looked_up(stored: h5py.Dataset, known: _Dataset, array: np.ndarray) -> _Runs | ChunkIndex | None:
    """Where the chunks of a dataset lie; None if the library should read them."""
    try:
        index = chunk_index(stored, known.descriptor)
    except (OSError, RuntimeError):  # HDF5's word for a damaged tree; what reads no tree may still be sound
        return None
    if index is None:
        return None
    is_as_it_lies = known.chunk[1:] == array.shape[1:] and _is_bare(known, index).all()
    return _runs(known, index) if is_as_it_lies else index


def _is_bare(known: _Dataset, index: ChunkIndex) -> NDArray[np.bool_]:
    """Whether each chunk lies in the file as it is."""
    is_bare: NDArray[np.bool_] = (index.masks == known.all_left_out) & (index.sizes == known.chunk_bytes)
    return is_bare


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


class _Remembered(NamedTuple):
    """A dataset, and where its chunks lie."""

    known: _Dataset
    found: _Runs | ChunkIndex


_remembered: dict[tuple[object, ...], _Remembered] = {}
"""By dataset: a run reads a slide once per epoch, and asks the file's index once. 10,000 of TRIDENT's chunks are 180 runs."""


def _remember(place: tuple[object, ...], dataset: _Remembered) -> None:
    n_new = len(dataset.found.addresses)
    with _remembering:
        if sum(len(each.found.addresses) for each in _remembered.values()) + n_new > MOST_REMEMBERED:
            _remembered.clear()
        _remembered[place] = dataset


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
        fill(known.descriptor, memory[first:last], address)  # the last chunk may reach beyond the array
    return True


def _bytes_of(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8).data)


# ---- chunks side by side -------------------------------------------------------------------------


def _read_bands(stored: h5py.Dataset, known: _Dataset, index: ChunkIndex, array: np.ndarray) -> bool:
    """Chunks that make whole rows together, placed row by row instead of chunk by chunk: 0.6 of the time on float16.

    The library reads bands with a filter. False = too many of them.
    """
    n_rows, width = known.chunk[0], known.chunk[-1]
    if array.ndim != 2 or array.shape[1] % width or n_rows * array.shape[1] * known.itemsize > LARGE_CHUNK:
        return False
    side_by_side = array.shape[1] // width
    is_band: NDArray[np.bool_] = np.all(_is_bare(known, index).reshape(-1, side_by_side), axis=1)
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
                fill(known.descriptor, piece, address)
            rows = array[part].reshape(-1, side_by_side, width)
            rows[...] = block[:, : len(rows)].transpose(1, 0, 2)
        else:
            stored.read_direct(array, np.s_[part, :], np.s_[part, :])
    return True


# ---- chunks that are inflated or placed ----------------------------------------------------------


def _read_batches(known: _Dataset, index: ChunkIndex, array: np.ndarray) -> bool:
    """All other chunks: each batch is read at once, inflated and placed by one thread."""
    is_alone = known.chunk_bytes > LARGE_CHUNK or INFLATED not in known.filters
    batches, n_threads = list(_batches(known, index)), 1 if is_alone else torch.get_num_threads()
    in_threads(partial(_read_batch, known, index, array), batches, n_threads)
    return True


def _batches(known: _Dataset, index: ChunkIndex) -> Iterator[range]:
    """Rows of the index, as many at a time as make `BATCH` bytes."""
    step = max(1, BATCH // known.chunk_bytes)
    yield from (range(first, min(first + step, len(index.sizes))) for first in range(0, len(index.sizes), step))


def _read_batch(known: _Dataset, index: ChunkIndex, array: np.ndarray, rows: range) -> None:
    part = slice(rows.start, rows.stop)
    masks = index.masks[part]
    contents = _contents(known.descriptor, index, rows)
    side_by_side = _side_by_side(known, array)
    if side_by_side and INFLATED in known.filters and not masks.any() and known.chunk_bytes <= BATCH:
        if side_by_side == 1 and SHUFFLED not in known.filters:
            _inflate_rows(known, rows, contents, array)
        else:
            _inflate_pieces(known, rows, contents, side_by_side, array)
        return
    grid = tuple(-(-length // step) for length, step in zip(array.shape, known.chunk, strict=True))
    places = (np.stack(np.unravel_index(np.arange(rows.start, rows.stop), grid), axis=1) * known.chunk).tolist()
    raw = zip(places, map(partial(_undone, known), contents, masks.tolist()), strict=True)
    if side_by_side == 1:
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
    """The same, straight into the array: the index names all chunks in order, so that each follows the one before."""
    n_bytes = known.chunk_bytes
    inflate_into(_bytes_of(array)[rows.start * n_bytes :], contents, len(rows), n_bytes)


def _side_by_side(known: _Dataset, array: np.ndarray) -> int:
    """Chunks that make whole rows together; 0 if there is no such number."""
    if known.chunk[1:] == array.shape[1:]:
        return 1
    return 0 if array.ndim != 2 or array.shape[1] % known.chunk[1] else int(array.shape[1] // known.chunk[1])


def _inflate_pieces(
    known: _Dataset, rows: range, contents: Iterable[memoryview], side_by_side: int, array: np.ndarray
) -> None:
    """Several chunks are inflated into one block, whose shuffle is undone and which is placed by one call each."""
    n_bytes, streams = known.chunk_bytes, iter(contents)
    for piece in _pieces(rows, max(1, PIECE // n_bytes), side_by_side):
        n_chunks = len(piece)
        block = scratch(n_chunks * n_bytes, "block")
        inflate_into(block, islice(streams, n_chunks), n_chunks, n_bytes)
        values = np.frombuffer(block, np.uint8)
        if SHUFFLED in known.filters:
            values = unshuffled(values.reshape(n_chunks, known.itemsize, -1), scratch(len(block), "values"))
        _place(values.reshape(-1).view(array.dtype).reshape(n_chunks, *known.chunk), piece.start, side_by_side, array)


def _pieces(rows: range, most: int, side_by_side: int) -> Iterator[range]:
    """Parts of `rows` of at most so many chunks; chunks of different rows are together only where each is of whole rows."""
    start = rows.start
    while start < rows.stop:
        in_row = side_by_side - start % side_by_side if side_by_side > 1 else most
        stop = min(start + most, start + in_row, rows.stop)
        yield range(start, stop)
        start = stop


def _place(values: np.ndarray, first: int, side_by_side: int, array: np.ndarray) -> None:
    """Put chunks [chunks, *shape of one] where they belong; `first` is the number of the first one. The last may reach beyond."""
    if side_by_side == 1:
        part = array.reshape(-1)[first * values[0].size : (first + len(values)) * values[0].size]
        part[...] = values.reshape(-1)[: len(part)]
        return
    (band, column), n_rows = divmod(first, side_by_side), values.shape[1]
    in_bands = array.reshape(len(array), side_by_side, -1)
    part = in_bands[band * n_rows : (band + 1) * n_rows, column : column + len(values)]
    part[...] = values[:, : len(part)].transpose(1, 0, 2)


def _contents(descriptor: int, index: ChunkIndex, rows: range) -> Iterable[memoryview]:
    """Stored bytes of each chunk, read at once if they lie close together. A chunk is valid until the next one is asked for."""
    part = slice(rows.start, rows.stop)
    addresses, sizes = index.addresses[part], index.sizes[part]
    start, stop = int(addresses.min()), int((addresses + sizes).max())
    if stop - start <= 2 * int(sizes.sum()):
        block = scratch(stop - start)
        fill(descriptor, block, start)
        begins = addresses - start
        return [block[begin:end] for begin, end in zip(begins.tolist(), (begins + sizes).tolist(), strict=True)]
    return _one_by_one(descriptor, addresses.tolist(), sizes.tolist())


def _one_by_one(descriptor: int, addresses: list[int], sizes: list[int]) -> Iterator[memoryview]:
    for address, size in zip(addresses, sizes, strict=True):
        block = scratch(size)
        fill(descriptor, block, address)
        yield block


def _undone(known: _Dataset, content: memoryview, mask: int) -> Buffer:
    """Bytes of one chunk, its filters undone in the reverse order; a bit of `mask` tells that one was left out."""
    raw: Buffer = content
    for bit, kind in reversed(list(enumerate(known.filters))):
        if mask >> bit & 1:
            continue
        if kind == LEFT_OUT:  # the library undoes it
            raise _OddChunk
        raw = inflated(raw, known.chunk_bytes) if kind == INFLATED else _without_shuffle(raw, known.itemsize)
    if len(raw) != known.chunk_bytes:
        raise _OddChunk
    return raw


def _without_shuffle(content: Buffer, itemsize: int) -> memoryview:
    if len(content) % itemsize:
        raise _OddChunk
    return _bytes_of(unshuffled(np.frombuffer(content, np.uint8).reshape(1, itemsize, -1)))
