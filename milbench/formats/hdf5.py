"""What all layouts in HDF5 share: opening, checking and reading; a layout only says where things lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite, prod
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

from milbench.errors import FeatureFileError
from milbench.formats import PIXELS, SlideFeatures, SlideHeader
from milbench.formats.chunks import read_chunks
from milbench.formats.hdf5_file import Hdf5File, StoredArray
from milbench.formats.linked import files_of
from milbench.formats.opening import failing_clearly, listed
from milbench.formats.shapes import (
    LARGEST_PLACE,
    Coordinates,
    as_bag,
    bag_shape,
    fitting,
    is_float,
    kind_of,
    misfit,
    truth_problem,
)


class StoredCoords(NamedTuple):
    """Coordinates that a file holds, not read yet.

    Attributes
    ----------
    values : reads them, [N, 2].
    shape, dtype : as stored.
    unit : see `milbench.formats`.
    patch_size : in that unit, or None.
    problem : why there is nothing to read; empty otherwise.
    """

    values: Callable[[], np.ndarray]
    shape: tuple[int, ...]
    dtype: str
    unit: str = PIXELS
    patch_size: float | None = None
    problem: str = ""


class StoredSlide(NamedTuple):
    """Where one open file keeps a slide."""

    features: StoredArray
    coords: StoredCoords | None = None
    encoder: str = ""
    magnification: float | None = None
    instance_labels: StoredArray | None = None
    mpp: float | None = None
    weights_sha256: str = ""
    transform: str = ""


MOST_COMPRESSED = 2000
"""Bytes per stored byte that no filter exceeds on data; gzip ends at 1032."""

SMALL, FEW_CHUNKS = 1 << 18, 64
"""Bytes and chunks of a compressed array that the library has read before its index is."""

LOCKED, UNFINISHED = "unable to lock file", "already open for write"
"""How HDF5 says that another program holds a file, and that one died while it held it."""

Describe = Callable[[Path, Hdf5File], StoredSlide]


def read(path: Path, describe: Describe) -> SlideFeatures:
    """Features [N, D], coordinates and truth of one file in the layout that `describe` knows."""
    with opened(path) as file:
        slide = describe(path, file)
        features = as_bag(path, torch.from_numpy(values(slide.features)))
        truth = None if slide.instance_labels is None else _truth(path, slide.instance_labels, len(features))
        if slide.coords is None:
            return SlideFeatures(features, instance_labels=truth)
        places = _places(slide.coords, len(features))
        return SlideFeatures(features, places.coords, slide.coords.patch_size, slide.coords.unit, truth, places.problem)


def _truth(path: Path, stored: StoredArray, n_patches: int) -> Tensor:
    """Truth [N, T], one column where a vector is kept."""
    if problem := truth_problem(stored.dtype.name, stored.shape, n_patches):
        raise FeatureFileError(f"{path}: '{stored.name}' {problem}")
    refuse_unwritten(path, stored)
    return torch.from_numpy(values(stored).reshape(n_patches, prod(stored.shape[1:])))


def _places(coords: StoredCoords, n_patches: int) -> Coordinates:
    problem = coords.problem or misfit(coords.shape, coords.dtype, n_patches)  # before anything is read
    return Coordinates(None, problem) if problem else fitting(coords.values(), n_patches, coords.unit)


def head(path: Path, describe: Describe) -> SlideHeader:
    """Sizes of one file, its values left on disk."""
    with opened(path) as file:
        slide = describe(path, file)
        n_patches, width = bag_shape(path, slide.features.shape)
        told = SlideHeader(
            n_patches, width, slide.features.dtype.name, encoder=slide.encoder, magnification=slide.magnification,
            mpp=slide.mpp, weights_sha256=slide.weights_sha256, transform=slide.transform,
        )  # fmt: skip
        if slide.coords is None:
            return told
        stored = slide.coords
        problem = stored.problem or misfit(stored.shape, stored.dtype, n_patches)
        return told._replace(unit=stored.unit, patch_size=stored.patch_size, coords_problem=problem)


@contextmanager
def opened(path: Path) -> Iterator[Hdf5File]:
    """The open file; anything that h5py dislikes about it becomes a `FeatureFileError`."""
    with failing_clearly(path, "HDF5 file", "Extract this slide again."), _in_use(path), Hdf5File(path) as file:
        yield file


@contextmanager
def _in_use(path: Path) -> Iterator[None]:
    """Say so if another program holds the file, or died while it held it."""
    try:
        yield
    except OSError as error:
        if trouble := _held_by_another(error):
            raise FeatureFileError(f"{path} {trouble}") from error
        raise


def _held_by_another(error: OSError) -> str:
    if LOCKED in str(error):
        return (
            "is locked: another program is writing it, or its file system has no locks. Wait until the extraction has "
            "ended. If none is running, set the environment variable HDF5_USE_FILE_LOCKING=FALSE."
        )
    if UNFINISHED in str(error):
        return (
            "was never closed by the program that wrote it. Wait until the extraction has ended. If none is running, "
            "extract this slide again."
        )
    return ""


def feature_dataset(path: Path, file: Hdf5File, name: str) -> StoredArray:
    """The dataset `name` of floats.

    Raises
    ------
    FeatureFileError : it is missing, a group, no floats or a single number.
    """
    if name not in file:
        what = "patch coordinates only, not features" if list(file) == ["coords"] else f"it holds {listed(file)}"
        raise FeatureFileError(f"{path} has no dataset '{name}' ({what}). Point `features:` to the extracted features.")
    stored = file.array(name)
    if not is_float(stored.dtype) or not stored.shape:
        raise FeatureFileError(
            f"{path}: '{name}' is {kind_of(stored.dtype)} of shape {stored.shape}; expected float16 or float32 "
            "(patches, width). Extract this slide again."
        )
    refuse_unwritten(path, stored)
    return stored


def refuse_unwritten(path: Path, array: StoredArray) -> None:
    """A few bytes can declare any number of patches, which would fill the memory with zeros when they are read."""
    if array.address is not None or array.file.is_large_enough(array.name):
        return
    stored = array.of_library
    holders = files_of(path) if stored.is_virtual else (Path(stored.file.filename),)
    size = sum(holder.stat().st_size for holder in holders)
    may_be_compressed = stored.is_virtual or stored.id.get_create_plist().get_nfilters()
    if stored.nbytes > size * (MOST_COMPRESSED if may_be_compressed else 1):
        raise FeatureFileError(
            f"{path}: '{array.name}' declares {stored.shape} values, which a file of {size:,} bytes cannot hold: "
            "its extraction did not end. Extract this slide again."
        )
    array.file.note_large_enough(array.name)


def coordinates(path: Path, file: Hdf5File, describe: Callable[[StoredArray], StoredCoords]) -> StoredCoords | None:
    """The dataset `coords` as a layout describes it, or None; whatever is wrong with it stops maps and no training."""
    if "coords" not in file:
        return None
    try:
        return describe(file.array("coords"))
    except FeatureFileError as error:
        return unusable(str(error))


def unusable(problem: str) -> StoredCoords:
    """Coordinates that cannot be read, and why."""
    return StoredCoords(lambda: np.empty((0, 2)), (0, 2), "int64", problem=problem)


def optional(path: Path, file: Hdf5File, name: str) -> StoredArray | None:
    """The dataset `name`, or None."""
    return file.array(name) if name in file else None


def values(stored: StoredArray | h5py.Dataset) -> np.ndarray:
    """The stored array in this machine's byte order, which torch asks for.

    Read into memory that nobody filled with zeros first, as `stored[()]` does: 1.4 times faster on a large bag.
    """
    array = np.empty(stored.shape, stored.dtype)
    if isinstance(stored, StoredArray):
        if stored.address is not None:
            stored.file.fill(array, stored.address)
            return _in_own_order(array)
        if stored.file.fill_from_chunks(array, stored.name):
            return _in_own_order(array)
        stored = stored.of_library
        if array.nbytes <= SMALL and _has_few_filtered(stored):
            return _by_library(stored, array)
    if array.size and not read_chunks(stored, array):
        return _by_library(stored, array)
    return _in_own_order(array)


def _has_few_filtered(stored: h5py.Dataset) -> bool:
    """Whether an array is a few chunks with filters; where others lie is remembered."""
    is_filtered = bool(stored.chunks) and stored.id.get_create_plist().get_nfilters() > 0
    return is_filtered and bool(stored.id.get_num_chunks() <= FEW_CHUNKS)


def _by_library(stored: h5py.Dataset, array: np.ndarray) -> np.ndarray:
    """The array as the library reads it, into `array` if that has this machine's byte order."""
    if not array.dtype.isnative:
        array = np.empty(stored.shape, stored.dtype.newbyteorder("="))
    if array.size:
        stored.read_direct(array)
    return array


def _in_own_order(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.isnative else array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


def text(attributes: Any, name: str) -> str:
    """An attribute as text; empty where it is missing or the text `None`, which TRIDENT writes."""
    value = attributes.get(name, "")
    value = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return "" if value == "None" else value


def number(attributes: Any, name: str) -> float | None:
    """An attribute as number (the first of several); None where it is missing, `None` or no finite number."""
    value = attributes.get(name)
    try:
        found = None if value is None else float(np.ravel(np.asarray(value))[0])
    except (ValueError, IndexError, TypeError):
        return None
    return found if found is not None and isfinite(found) else None


def size(attributes: Any, name: str) -> float | None:
    """An attribute as a size: above 0, and no larger than a slide; None otherwise."""
    found = number(attributes, name)
    return found if found is not None and 0 < found <= LARGEST_PLACE else None
