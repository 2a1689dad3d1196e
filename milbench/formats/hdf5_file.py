"""HDF5 file: what a file says of its arrays, asked of the library once as long as the file stays as it is.

To open a file takes the library longer than to read a small slide: 0.2 ms, and several requests to a network file system. So
its answers are remembered: names, shapes, attributes, and where an array lies that is one piece of numbers. The library is
opened where a question is new. A slide whose features and coordinates are such arrays is then read by the system alone.

Nothing is remembered of a file that leads to others: these may change while it does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import h5py
import numpy as np

from milbench.errors import FeatureFileError
from milbench.formats.chunks import read_remembered, remembered_chunks
from milbench.formats.global_heap import refuse_endless_heap
from milbench.formats.linked import leads_elsewhere, refuse_absent_sources
from milbench.formats.parts import fill
from milbench.formats.unchanged import of_content, of_facts, remember, remembered

PLAIN = "sec2"
"""The driver that reads a file by the system's own calls. An environment variable may choose another."""

CONTENT = 4
"""Parts of a key (`of_facts`) that tell of a file's content: device, number, size and time of the last change."""

LONGEST_VALUE = 4096
"""Bytes or letters of an attribute that is remembered. An array of texts is not: any of them may be long."""


class ArrayFacts(NamedTuple):
    """What a file says of an array.

    Attributes
    ----------
    shape, dtype : as stored.
    address : byte of the file at which its numbers start; None if only the library can read them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    address: int | None


class _Answers(NamedTuple):
    """What one file was asked so far; the owner of an attribute is an array's name, or empty for the file."""

    has: dict[str, bool]
    arrays: dict[str, ArrayFacts]
    attributes: dict[tuple[str, str], Any]
    large_enough: dict[str, bool]

    def with_those_of(self, others: _Answers) -> _Answers:
        return _Answers(
            {**self.has, **others.has},
            {**self.arrays, **others.arrays},
            {**self.attributes, **others.attributes},
            {**self.large_enough, **others.large_enough},
        )


def _none_yet() -> _Answers:
    return _Answers({}, {}, {}, {})


class Hdf5File:
    """A file that is read, within `with`.

    >>> with Hdf5File(Path("slide.h5")) as file:  # doctest: +SKIP
    ...     file.array("features").shape if "features" in file else file.attrs.get("encoder")
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._as_it_is = of_content(path, "HDF5")
        self._known: _Answers | None = remembered(self._as_it_is)
        self._new = _none_yet()
        self._library: h5py.File | None = None
        self._opened: dict[str, Any] = {}
        self._is_alone = self._known is not None
        self._descriptor: int | None = None

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._descriptor is not None:  # nothing keeps writers away, as the library's lock does
                self._refuse_changed(self._descriptor)
        finally:
            self._close()
        if error is None and self._is_alone and any(self._new):
            known = remembered(self._as_it_is) or _none_yet()  # another thread may have asked more meanwhile
            remember(self._as_it_is, known.with_those_of(self._new))

    def _close(self) -> None:
        if self._library is not None:
            self._library.close()
        if self._descriptor is not None:
            os.close(self._descriptor)

    # ---- questions -------------------------------------------------------------------------------

    def __contains__(self, name: str) -> bool:
        known = self._told("has", name)
        if known is None:
            known = self._new.has[name] = name in self.library
        return bool(known)

    def __iter__(self) -> Iterator[str]:
        return iter(self.library)

    @property
    def attrs(self) -> Attributes:
        return Attributes(self, "")

    def attributes_of(self, name: str) -> Attributes:
        """Attributes of the array or the group `name`."""
        return Attributes(self, name)

    def array(self, name: str) -> StoredArray:
        """The array `name`.

        Raises
        ------
        FeatureFileError : a group has that name, or the values are not there, or not all of them.
        """
        facts = self._told("arrays", name)
        if facts is None:
            facts = self._new.arrays[name] = self._examined(self.of_library(name), name)
        return StoredArray(self, name, *facts)

    def _examined(self, stored: Any, name: str) -> ArrayFacts:
        if not isinstance(stored, h5py.Dataset):
            raise FeatureFileError(
                f"{self.path}: '{name}' is a group of datasets, expected one. Extract this slide again."
            )
        if stored.shape is None:
            raise FeatureFileError(
                f"{self.path}: '{name}' is an empty {stored.dtype}, without a shape. Extract this slide again."
            )
        refuse_absent_sources(stored)
        address = _address(stored) if self._is_alone and self._is_plain else None
        return ArrayFacts(stored.shape, stored.dtype, address)

    @property
    def _is_plain(self) -> bool:
        """Whether addresses in the file are places of its bytes."""
        return self.library.driver == PLAIN and not self.library.userblock_size and hasattr(os, "preadv")

    def is_large_enough(self, name: str) -> bool:
        """Whether it was noted that the file can hold all values of an array."""
        return bool(self._told("large_enough", name))

    def note_large_enough(self, name: str) -> None:
        """Note it."""
        self._new.large_enough[name] = True

    def attribute(self, owner: str, name: str) -> Any:
        """The value of an attribute, or None."""
        known = self._told("attributes", (owner, name))
        if known is not None:
            return known[0]
        value = (self.of_library(owner) if owner else self.library).attrs.get(name)
        if _length(value) <= LONGEST_VALUE and not getattr(getattr(value, "dtype", None), "hasobject", False):
            self._new.attributes[owner, name] = (value,)
        return value

    def _told(self, kind: str, key: object) -> Any:
        """What is known already, or None."""
        found = getattr(self._new, kind).get(key)
        return found if found is not None or self._known is None else getattr(self._known, kind).get(key)

    # ---- the file itself -------------------------------------------------------------------------

    @property
    def library(self) -> h5py.File:
        """The file as the library opens it, which it does at the first use.

        Raises
        ------
        FeatureFileError : it leads to what cannot be read, its heap leads nowhere, or it was changed meanwhile.
        """
        if self._library is None:
            if self._known is None:
                refuse_endless_heap(self.path)
            self._library = h5py.File(h5py.h5f.open(os.fsencode(self.path), h5py.h5f.ACC_RDONLY, _access()))
            if self._library.driver == PLAIN:
                self._note_opened(self._library.id.get_vfd_handle())
            if self._known is None:
                self._is_alone = not leads_elsewhere(self.path, self._library)
        return self._library

    def of_library(self, name: str) -> Any:
        """The dataset or the group `name` as the library knows it."""
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def _open(self, name: str) -> Any:
        library = self.library
        if not self._is_alone:
            return library[name]
        try:  # by its lower level, a third of the time
            return h5py.Dataset(h5py.h5d.open(library.id, name.encode()), readonly=True)
        except (KeyError, TypeError, ValueError):  # a group, or nothing at all
            return library[name]

    def fill(self, array: np.ndarray, address: int) -> None:
        """Read numbers from the place `address` into `array`."""
        fill(self._plain(), memoryview(array.reshape(-1).view(np.uint8).data), address)

    def fill_from_chunks(self, array: np.ndarray, name: str) -> bool:
        """Read the array `name` as it was read before, without the library; False if that is not known, or cannot be done."""
        if self._known is None or self._library is not None:
            return False
        chunks = remembered_chunks(self._as_it_is[:-1], name)
        return chunks is not None and read_remembered(self._plain(), chunks, array)

    def _plain(self) -> int:
        """Descriptor of the file, which the library or the system has opened."""
        if self._library is not None:
            return int(self._library.id.get_vfd_handle())
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY)
            self._refuse_changed(self._descriptor)
        return self._descriptor

    def _note_opened(self, descriptor: int) -> None:
        """Another file may lie there by now: what it says must not be taken for what the former said."""
        if self._known is None:
            self._as_it_is = of_facts(os.fstat(descriptor), "HDF5")
        else:
            self._refuse_changed(descriptor)

    def _refuse_changed(self, descriptor: int) -> None:
        """A file that got another name, link or right meanwhile holds what it held."""
        if of_facts(os.fstat(descriptor))[:CONTENT] != self._as_it_is[:CONTENT]:
            raise FeatureFileError(
                f"{self.path} was changed while it was read. Wait until it is written, and run again."
            )


class Attributes:
    """Attributes of a file or of an array in it."""

    def __init__(self, file: Hdf5File, owner: str) -> None:
        self._file, self._owner = file, owner

    def get(self, name: str, default: Any = None) -> Any:
        """The value of `name`, or `default` where there is none."""
        value = self._file.attribute(self._owner, name)
        return default if value is None else value

    def __getitem__(self, name: str) -> Any:
        value = self._file.attribute(self._owner, name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: str) -> bool:
        return self._file.attribute(self._owner, name) is not None


class StoredArray(NamedTuple):
    """An array in a file, its numbers not read yet; see `ArrayFacts`."""

    file: Hdf5File
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    address: int | None

    @property
    def attrs(self) -> Attributes:
        return Attributes(self.file, self.name)

    @property
    def of_library(self) -> h5py.Dataset:
        return self.file.of_library(self.name)


def _length(value: Any) -> int:
    """Letters or bytes of an attribute's value, whatever it is; 0 of one that h5py makes of nothing."""
    return len(value) if isinstance(value, (str, bytes)) else int(getattr(value, "nbytes", 0))


def _address(stored: h5py.Dataset) -> int | None:
    """Where the numbers of an array lie, if they lie in one piece and as they are in memory; else None."""
    dtype, created = stored.dtype, stored.id.get_create_plist()
    if created.get_layout() != h5py.h5d.CONTIGUOUS or created.get_external_count():
        return None
    if dtype.kind not in "fiu" or stored.id.get_type() != _type_of(dtype):
        return None  # h5py converts
    address, n_bytes = stored.id.get_offset(), stored.size * dtype.itemsize
    if address is None or stored.id.get_storage_size() != n_bytes or not n_bytes:
        return None
    is_there = address + n_bytes <= os.fstat(stored.file.id.get_vfd_handle()).st_size
    return address if is_there else None


@lru_cache(maxsize=32)
def _type_of(dtype: np.dtype[Any]) -> Any:
    """How the library calls a type of NumPy."""
    return h5py.h5t.py_create(dtype)


@lru_cache(maxsize=1)
def _access() -> Any:
    """How files are opened, as `h5py.File` does: made once, since it takes as long as to open a file."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    return access
