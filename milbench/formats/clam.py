"""CLAM (mahmoodlab/CLAM): `{slide}.h5` with `features` and `coords`, or `{slide}.pt` with one tensor.

Files lie in the folder itself or in CLAM's `h5_files/` and `pt_files/`. Coordinates are level-0 pixels. The size of a
patch stands in the patching step's `patches/{slide}.h5`, one or two folders above, where that lies beside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from milbench.errors import FeatureFileError
from milbench.formats.hdf5 import (
    StoredCoords,
    StoredSlide,
    coordinates,
    feature_dataset,
    opened,
    optional,
    size,
    values,
)
from milbench.formats.hdf5_file import Hdf5File, StoredArray

NAME, PATCHES = "CLAM", "patches"


def recognises(path: Path, file: Hdf5File) -> bool:
    """Whether `file` has CLAM's dataset; layouts that add attributes to it are asked first."""
    return "features" in file


def describe(path: Path, file: Hdf5File) -> StoredSlide:
    """Where CLAM keeps a slide."""
    return StoredSlide(
        feature_dataset(path, file, "features"),
        coordinates(path, file, lambda stored: _coords(path, stored)),
        instance_labels=optional(path, file, "instance_labels"),
    )


def _coords(path: Path, stored: StoredArray) -> StoredCoords:
    edge = patch_size(stored.attrs) or _patch_size_beside(path)
    return StoredCoords(lambda: values(stored), stored.shape, stored.dtype.name, patch_size=edge)


def _patch_size_beside(path: Path) -> float | None:
    """What CLAM's patching step wrote: its feature files do not keep it."""
    for folder in path.parents[1:3]:
        patches = folder / PATCHES / f"{path.stem}.h5"
        if patches.is_file():
            return _patch_size_of(patches)
    return None


def _patch_size_of(patches: Path) -> float | None:
    try:
        with opened(patches) as file:
            return patch_size(file.array("coords").attrs)
    except FeatureFileError:  # features train without it, and a map asks for it
        return None


def patch_size(attributes: Any) -> float | None:
    """Edge of a patch in level-0 pixels, where the extractor wrote it beside the coordinates."""
    level0 = size(attributes, "patch_size_level0")
    edge, downsample = size(attributes, "patch_size"), size(attributes, "downsample")
    if level0 is not None:
        return level0
    return edge * downsample if edge and downsample else None  # CLAM counts in pixels of `patch_level`
