"""torchmil (Franblueee/torchmil): parallel folders of `{slide}.npy` or `{slide}.h5`.

`features/`, `coords/`, `labels/` and `inst_labels/` (or `patch_labels/`) side by side. HDF5 files hold one dataset
called as its folder; instance labels are NumPy files always. The unit of coordinates is not stored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from milbench.errors import FeatureFileError
from milbench.formats import UNKNOWN, SlideFeatures, SlideHeader, arrays, hdf5
from milbench.formats.hdf5 import StoredSlide, feature_dataset
from milbench.formats.hdf5_file import Hdf5File
from milbench.formats.shapes import Coordinates, fitting, misfit, tensor, truth_problem

NAME = "torchmil"
COORDS, TRUTH = ("coords",), ("inst_labels", "patch_labels", "instance_labels")
BESIDE = ("labels", *COORDS, *TRUTH)


def recognises(folder: Path, suffix: str) -> bool:
    """Whether one of torchmil's other folders lies beside `folder`, with files of the same kind."""
    return any(any((folder.parent / name).glob(f"*{suffix}")) for name in BESIDE if folder.name not in BESIDE)


def read(path: Path) -> SlideFeatures:
    """Features [N, D], coordinates and truth of one slide, from their folders."""
    features = (hdf5.read(path, _describe) if path.suffix != ".npy" else arrays.read_npy(path)).features
    places, truth = _places(path, len(features)), _beside(path, TRUTH)
    return SlideFeatures(
        features,
        places.coords,
        unit=UNKNOWN,
        instance_labels=None if truth is None else tensor(_truth(truth, len(features))),
        coords_problem=places.problem,
    )


def head(path: Path) -> SlideHeader:
    """Sizes of one slide."""
    header = hdf5.head(path, _describe) if path.suffix != ".npy" else arrays.head_npy(path)
    return header._replace(
        unit=UNKNOWN if _beside(path, COORDS) else "", coords_problem=_coords_problem(path, header.n_patches)
    )


def _places(path: Path, n_patches: int) -> Coordinates:
    coords = _beside(path, COORDS)
    try:
        return Coordinates(None) if coords is None else fitting(_array(coords, "coords"), n_patches, UNKNOWN)
    except FeatureFileError as error:
        return Coordinates(None, str(error))


def _coords_problem(path: Path, n_patches: int) -> str:
    coords = _beside(path, COORDS)
    try:
        return "" if coords is None else _header_problem(coords, n_patches)
    except FeatureFileError as error:
        return str(error)


def _header_problem(coords: Path, n_patches: int) -> str:
    if coords.suffix == ".npy":
        shape, dtype = arrays.shape_and_type(coords)
        return misfit(shape, dtype.name, n_patches)
    with hdf5.opened(coords) as file:
        stored = file.array("coords")
        return misfit(stored.shape, stored.dtype.name, n_patches)


def _describe(path: Path, file: Hdf5File) -> StoredSlide:
    return StoredSlide(feature_dataset(path, file, "features"))


def _beside(path: Path, folders: tuple[str, ...]) -> Path | None:
    """The slide's file in the first of `folders` that has one."""
    slide = path.name.removesuffix(path.suffix)
    places = [
        path.parent.parent / folder / f"{slide}{suffix}" for folder in folders for suffix in (path.suffix, ".npy")
    ]
    return next(filter(Path.exists, places), None)


def _array(path: Path, name: str) -> np.ndarray:
    if path.suffix == ".npy":
        return arrays.load_array(path)
    with hdf5.opened(path) as file:
        return hdf5.values(file.array(name))


def _truth(path: Path, n_patches: int) -> np.ndarray:
    """Truth [N, T], one column where torchmil keeps a vector."""
    stored = _array(path, path.parent.name)
    if problem := truth_problem(stored.dtype.name, stored.shape, n_patches):
        raise FeatureFileError(f"{path} {problem}")
    return stored.reshape(n_patches, -1)
