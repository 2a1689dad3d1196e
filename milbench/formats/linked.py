"""Linked: files that a slide takes its values from: an HDF5 file's by links and virtual datasets, and those of a store.

External storage, raw bytes in a file without a header, is refused: HDF5 looks for it in the folder that a command starts in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil, prod
from pathlib import Path

import h5py

from milbench.errors import FeatureFileError
from milbench.formats import wsidata, zarr_store
from milbench.formats.global_heap import refuse_endless_heap
from milbench.formats.opening import failing_clearly
from milbench.special_files import refuse_special

SUFFIXES = (".h5", ".hdf5")
SAME_FILE = "."
"""How a virtual dataset names its own file."""


def files_of(path: Path) -> tuple[Path, ...]:
    """`path` and all files that its values may come from, in the order in which they are met; of a store, its files.

    Raises
    ------
    FeatureFileError : one of them is missing, unreadable, a pipe or a device.
    """
    if path.is_dir():
        return wsidata.sources(path) if wsidata.is_table(path) else zarr_store.files_in(path)
    found: dict[Path, None] = {path: None}
    if path.suffix in SUFFIXES:
        _follow(path, found)
    return tuple(found)


def n_bytes(path: Path) -> int:
    """Size of a file, or of all files of a store; raises `OSError`."""
    return sum(file.stat().st_size for file in files_of(path)) if path.is_dir() else path.stat().st_size


def leads_elsewhere(path: Path, file: h5py.File) -> bool:
    """Whether values of an open file may come from other files.

    Raises
    ------
    FeatureFileError : one of them is a pipe or a device, for which HDF5 would wait, or missing or unreadable.
    """
    if next(_targets(path, file), None) is None:
        return False
    files_of(path)
    return True


def refuse_absent_sources(stored: h5py.Dataset, above: tuple[tuple[str, str], ...] = ()) -> None:
    """FeatureFileError if values of a dataset lie where nothing is, or were never written: HDF5 would hand out zeros.

    Parameters
    ----------
    above : file and name of the datasets that take their values from this one.
    """
    here = (os.fsdecode(h5py.h5f.get_name(stored.id)), stored.name)
    path = Path(here[0])
    told = f"{path}: '{stored.name.removeprefix('/')}'"
    if stored.external:
        raise FeatureFileError(
            f"{told} keeps its values in {stored.external[0][0]}, by HDF5's external storage, which is not read. "
            f"Write them into the file itself: h5repack {path.name} OUT.h5."
        )
    if here in above:
        raise FeatureFileError(f"{told} is a virtual dataset of itself. Extract this slide again.")
    if missing := _unwritten(stored):
        raise FeatureFileError(
            f"{told}: {missing}, and HDF5 would read zeros there: its extraction did not end. Extract this slide again."
        )
    for source in stored.virtual_sources() if stored.is_virtual else ():
        holder = path if source.file_name == SAME_FILE else resolved(path, source.file_name)
        if not _has(holder, source.dset_name, (*above, here)):
            raise FeatureFileError(
                f"{told} is a virtual dataset of '{source.dset_name}' in {holder}, which is not there. "
                "Put the source where it was, or extract this slide again."
            )


def _unwritten(stored: h5py.Dataset) -> str:
    """Which part of a dataset nobody wrote; empty if all of it was written, or its size is not fixed."""
    if not stored.size:
        return ""
    if stored.is_virtual:
        try:
            mapped = sum(source.vspace.get_select_npoints() for source in stored.virtual_sources())
        except RuntimeError:  # it grows with its sources, so that HDF5 counts no points
            return ""
        return f"{mapped} of its {stored.size} values have a source" if mapped < stored.size else ""
    if stored.chunks is None:
        return "" if stored.id.get_storage_size() else "its values were never written"
    expected = prod(ceil(length / step) for length, step in zip(stored.shape, stored.chunks, strict=True))
    written = stored.id.get_num_chunks()
    return f"{written} of its {expected} chunks were written" if written < expected else ""


def resolved(path: Path, name: str) -> Path:
    """The file that `path` calls `name`, looked for as HDF5 does: beside `path`, then in the current folder."""
    places = (path.parent / name, path.resolve().parent / name, Path(name))
    return next((place for place in places if place.exists()), places[0])


def _has(holder: Path, name: str, above: tuple[tuple[str, str], ...]) -> bool:
    """Whether `holder` has the dataset, and its values."""
    if not holder.is_file():
        return False
    with failing_clearly(holder, "HDF5 file", "Extract it again."):
        refuse_endless_heap(holder)
        with h5py.File(holder) as file:
            if name not in file or not isinstance(file[name], h5py.Dataset):
                return False
            refuse_absent_sources(file[name], above)
            return True


def _follow(path: Path, found: dict[Path, None]) -> None:
    with failing_clearly(path, "HDF5 file", "Extract this slide again."):
        refuse_endless_heap(path)
        with h5py.File(path) as file:
            targets = list(_targets(path, file))
    for target in targets:
        try:
            refuse_special(target, FeatureFileError)
            if target.exists() and target not in found:
                found[target] = None
                _follow(target, found)
        except FeatureFileError as error:
            raise FeatureFileError(f"{path} leads to another file. {error}") from error


def _targets(path: Path, file: h5py.File) -> Iterator[Path]:
    """Files that links and virtual datasets of an open file name; none of them is opened."""
    names: list[str] = []

    def look(name: bytes, link: h5py.h5l.LinkInfo) -> None:  # by the lower level: a tenth of `visititems_links`
        if link.type == h5py.h5l.TYPE_EXTERNAL:
            names.append(file.get(name, getlink=True).filename)
        elif link.type == h5py.h5l.TYPE_HARD and _is_virtual(h5py.h5o.open(file.id, name)):
            names.extend(source.file_name for source in file[name].virtual_sources())

    file.id.links.visit(look, info=True)
    yield from (resolved(path, name) for name in dict.fromkeys(names) if name != SAME_FILE)


def _is_virtual(stored: h5py.h5g.GroupID | h5py.h5d.DatasetID | h5py.h5t.TypeID) -> bool:
    return isinstance(stored, h5py.h5d.DatasetID) and stored.get_create_plist().get_layout() == h5py.h5d.VIRTUAL
