"""NumPy files: `{slide}.npy`, or `{slide}.npz` with `features` or `feats` (or one array) and perhaps `coords`."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from milbench.errors import FeatureFileError
from milbench.formats import UNKNOWN, SlideFeatures, SlideHeader
from milbench.formats.hdf5 import tensor
from milbench.formats.shapes import as_bag, bag_shape, fitting, misfit

KEYS = ("features", "feats")


def read_npy(path: Path) -> SlideFeatures:
    """Features [N, D] of one `.npy` file."""
    return SlideFeatures(as_bag(path, tensor(floats(path, load_array(path)))))


def head_npy(path: Path) -> SlideHeader:
    """Sizes of one `.npy` file, its values left on disk."""
    stored = floats(path, load_array(path, mapped=True))
    return SlideHeader(*bag_shape(path, stored.shape), stored.dtype.name)


def read_npz(path: Path) -> SlideFeatures:
    """Features [N, D] of one `.npz` file, and its coordinates if there are any."""
    with _failing_clearly(path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        features = as_bag(path, tensor(floats(path, archive[_key(path, archive.files)])))
        if "coords" not in archive.files:
            return SlideFeatures(features)
        places = fitting(archive["coords"], len(features), UNKNOWN)
        return SlideFeatures(features, places.coords, unit=UNKNOWN, coords_problem=places.problem)


def head_npz(path: Path) -> SlideHeader:
    """Sizes of one `.npz` file, from the header of the array inside."""
    with _failing_clearly(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        shape, dtype = _header(archive, _key(path, names))
        floats(path, np.empty((0, *shape[1:]) if shape else (), dtype))
        header = SlideHeader(*bag_shape(path, shape), dtype.name)
        if "coords" not in names:
            return header
        shape, dtype = _header(archive, "coords")
        return header._replace(unit=UNKNOWN, coords_problem=misfit(shape, dtype.name, header.n_patches))


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of one array inside."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(file)
        return shape, dtype


def load_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """The array of a `.npy` file, mapped or read; never unpickled."""
    with _failing_clearly(path):
        if mapped:
            return np.lib.format.open_memmap(path, mode="r")
        with path.open("rb") as file:  # by itself NumPy leaves a broken archive open
            return np.lib.format.read_array(file, allow_pickle=False)


def load_member(path: Path, name: str) -> np.ndarray:
    """The array `name` of a `.npz` file; never unpickled."""
    with _failing_clearly(path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        stored: np.ndarray = archive[name]
        return stored


def floats(path: Path, array: np.ndarray) -> np.ndarray:
    """`array`, if it is one of floats.

    Raises
    ------
    FeatureFileError : another dtype, or a single number.
    """
    if array.dtype.kind != "f" or array.ndim == 0:
        raise FeatureFileError(
            f"{path} holds {array.dtype} of shape {array.shape}; expected float16 or float32 (patches, width). "
            "Extract this slide again."
        )
    return array


def _key(path: Path, names: list[str]) -> str:
    others = [name for name in names if name != "coords"]
    known = [name for name in KEYS if name in names] or (others if len(others) == 1 else [])
    if not known:
        raise FeatureFileError(f"{path} holds {', '.join(names) or 'nothing'}; expected an array called 'features'.")
    return known[0]


@contextmanager
def _failing_clearly(path: Path) -> Iterator[None]:
    try:
        yield
    # a header may also declare sizes that no machine has
    except (OSError, ValueError, EOFError, KeyError, OverflowError, MemoryError, zipfile.BadZipFile) as error:
        raise FeatureFileError(
            f"{path} is no readable NumPy file ({error}). Extract this slide again, or save it with allow_pickle=False."
        ) from error
