"""Chunk index: where an HDF5 file keeps each chunk of a dataset.

TRIDENT writes one chunk per patch. The library tells of 10,000 chunks in 7 ms, each by a Python call. A third of a plain
read goes there. Files of HDF5's default version keep the index as a B-tree of version 1, which is read here in 1 ms. Its
nodes hold up to 64 chunks (HDF5 File Format Specification 3.0, III.A.1 and IV.A.2). Any other index is asked of the library.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

MOST_CHILDREN = 64
"""Chunks or nodes below one node: twice HDF5's default K of 32. A file that was made with another is asked of the library."""

NODE_START = 24
"""Bytes before the first key of a node: signature, type, level, number of children, addresses of both neighbours."""

CHUNKS, LAYOUT, CONTINUATION = 1, 0x0008, 0x0010
"""The type of a B-tree of chunks; numbers of two messages of an object header."""

MOST_HEADER, MOST_BLOCKS, DEEPEST = 1 << 16, 8, 8
"""Bytes and blocks of an object header, and levels of a tree, that are looked at. More are left to the library."""

CHECKED = 2
"""Chunks that the library is asked about as well: the first and the last."""


class ChunkIndex(NamedTuple):
    """All chunks of a dataset, in the order of their places in the array.

    Attributes
    ----------
    addresses, sizes : where its bytes start in the file, and how many there are.
    masks : filters that were left out when it was written, one bit each.
    """

    addresses: NDArray[np.int64]
    sizes: NDArray[np.int64]
    masks: NDArray[np.uint32]


class _Table(NamedTuple):
    """The same as a file tells it, with the index [n, axes] of each chunk's first value."""

    places: NDArray[np.int64]
    addresses: NDArray[np.int64]
    sizes: NDArray[np.int64]
    masks: NDArray[np.int64]


def chunk_index(stored: h5py.Dataset, descriptor: int) -> ChunkIndex | None:
    """Index of a chunked dataset; None if not every chunk of it was written, or the library has to read it.

    Parameters
    ----------
    descriptor : of the open file.
    """
    if stored.file.userblock_size:
        return None  # HDF5 below 1.14.3 tells addresses without it
    expected = tuple(-(-length // step) for length, step in zip(stored.shape, stored.chunks, strict=True))
    found = _from_tree(stored, descriptor, prod(expected))
    if found is None or not (_is_whole(found, stored.chunks, expected) and _agrees(found, stored)):
        if not hasattr(stored.id, "chunk_iter") or stored.id.get_num_chunks() != prod(expected):
            return None  # h5py with HDF5 below 1.12.3 has no such method
        found = _from_library(stored)
    is_in_file = _lies_within(found, os.fstat(descriptor).st_size)
    if not is_in_file or not _is_whole(found, stored.chunks, expected):
        return None
    return ChunkIndex(found.addresses, found.sizes, found.masks.astype(np.uint32))


def _lies_within(found: _Table, n_bytes: int) -> bool:
    """Whether no chunk reaches beyond the file: a damaged size would ask for gigabytes of memory."""
    return bool((found.addresses >= 0).all() and (found.addresses <= n_bytes - found.sizes).all())


def _from_library(stored: h5py.Dataset) -> _Table:
    told: list[h5py.h5d.StoreInfo] = []
    stored.id.chunk_iter(told.append)  # returns None, as it must to go on
    rows = [(*chunk.chunk_offset, chunk.byte_offset or 0, chunk.size, chunk.filter_mask) for chunk in told]
    return _sorted(np.array(rows, np.int64).reshape(len(rows), stored.ndim + 3))


def _sorted(table: NDArray[np.int64]) -> _Table:
    """The index of rows (places, address, size, mask), which a tree has in order and other indices may not."""
    places = table[:, :-3]
    if len(places) > 1 and not (np.diff(places[:, 0]) > 0).all():  # several in a row, or out of order
        table = table[np.lexsort(places.T[::-1])]
    return _Table(table[:, :-3], *table[:, -3:].T.copy())


def _is_whole(found: _Table, chunks: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether each chunk of the array is there, once."""
    grid = np.indices(expected).reshape(len(expected), -1).T * chunks
    return found.places.shape == grid.shape and np.array_equal(found.places, grid)


def _agrees(found: _Table, stored: h5py.Dataset) -> bool:
    """Whether the library says the same of a few chunks."""
    for row in np.linspace(0, len(found.sizes) - 1, CHECKED).astype(int):
        told = stored.id.get_chunk_info_by_coord(tuple(map(int, found.places[row])))
        if (told.byte_offset, told.size, told.filter_mask) != (
            found.addresses[row],
            found.sizes[row],
            found.masks[row],
        ):
            return False
    return True


# ---- B-tree of version 1 -------------------------------------------------------------------------


def _from_tree(stored: h5py.Dataset, descriptor: int, n_chunks: int) -> _Table | None:
    """The index, or None where the file keeps it in another way than HDF5 does by default."""
    if stored.file.id.get_create_plist().get_sizes() != (8, 8):
        return None  # addresses have other lengths
    entry = np.dtype([("size", "<u4"), ("mask", "<u4"), ("place", "<u8", stored.ndim + 1), ("child", "<u8")])
    try:
        root = _root(descriptor, h5py.h5o.get_info(stored.id).addr, stored.ndim)
        content = b"" if root is None else b"".join(_leaves(descriptor, root, entry, n_chunks))
    except (struct.error, ValueError, OverflowError, OSError):  # an address may be any number, or none
        return None
    if len(content) != n_chunks * entry.itemsize:
        return None
    keys = np.frombuffer(content, entry)
    table = np.empty((n_chunks, stored.ndim + 3), np.int64)
    table[:, :-3] = keys["place"][:, :-1]  # the last place is the byte of a value, always 0
    for column, name in ((-3, "child"), (-2, "size"), (-1, "mask")):
        table[:, column] = keys[name]
    return _sorted(table)


def _root(descriptor: int, address: int, axes: int) -> int | None:
    """Address of the tree's root, from the dataset's object header (version 1)."""
    version, _, _, _, length = struct.unpack("<BBHII", os.pread(descriptor, 12, address))
    blocks = [(address + 16, length)]
    for start, length in blocks:
        if version != 1 or length > MOST_HEADER or len(blocks) > MOST_BLOCKS:
            return None
        block = os.pread(descriptor, length, start)
        for kind, message in _messages(block):
            if kind == CONTINUATION:
                blocks.append(struct.unpack_from("<QQ", message))
            if kind == LAYOUT:
                (layout, how, ndim), (root,) = message[:3], struct.unpack_from("<Q", message, 3)
                return root if (layout, how, ndim) == (3, 2, axes + 1) else None
    return None


def _messages(block: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 8 <= len(block):
        kind, size = struct.unpack_from("<HH", block, place)
        yield kind, block[place + 8 : place + 8 + size]
        place += 8 + size


def _leaves(descriptor: int, root: int, entry: np.dtype[Any], most: int) -> Iterator[bytes]:
    """Entries of each leaf, in order: keys and addresses of chunks.

    Raises
    ------
    ValueError : this is no tree of at most `most` chunks.
    """
    nodes = [root]
    depth = None
    while depth != 0:
        if len(nodes) > most:
            raise ValueError("a tree has no more nodes than chunks")
        read = [_node(descriptor, node, entry) for node in nodes]
        depths = {found for found, _ in read}
        if depths != {max(depths) if depth is None else depth - 1}:
            raise ValueError("levels do not descend one by one")
        (depth,) = depths
        entries = [content for _, content in read]
        nodes = [child for content in entries for child in np.frombuffer(content, entry)["child"].tolist()]
    yield from entries


def _node(descriptor: int, address: int, entry: np.dtype[Any]) -> tuple[int, bytes]:
    """Level of a node, and its entries."""
    content = os.pread(descriptor, NODE_START + MOST_CHILDREN * entry.itemsize, address)
    signature, kind, depth, n_children = struct.unpack_from("<4sBBH", content)
    if signature != b"TREE" or kind != CHUNKS or depth > DEEPEST or n_children > MOST_CHILDREN:
        raise ValueError("no node of a tree of chunks")
    entries = content[NODE_START : NODE_START + n_children * entry.itemsize]
    if len(entries) != n_children * entry.itemsize:
        raise ValueError("the file ends within a node")
    return depth, entries
