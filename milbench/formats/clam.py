"""CLAM (mahmoodlab/CLAM): `{slide}.h5` with `features` and `coords`, or `{slide}.pt` with one tensor.

Files lie in the folder itself or in CLAM's `h5_files/` and `pt_files/`. Coordinates are level-0 pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from milbench.formats.hdf5 import StoredCoords, StoredSlide, feature_dataset, number, optional, values

NAME = "CLAM"


def recognises(path: Path, file: h5py.File) -> bool:
    """Whether `file` has CLAM's dataset; layouts that add attributes to it are asked first."""
    return "features" in file


def describe(path: Path, file: h5py.File) -> StoredSlide:
    """Where CLAM keeps a slide."""
    features = feature_dataset(path, file, "features")
    stored = optional(path, file, "coords")
    coords = None if stored is None else StoredCoords(lambda: values(stored), patch_size=patch_size(stored.attrs))
    return StoredSlide(features, coords, instance_labels=optional(path, file, "instance_labels"))


def patch_size(attributes: Any) -> float | None:
    """Edge of a patch in level-0 pixels, where the extractor wrote it beside the coordinates."""
    level0 = number(attributes, "patch_size_level0")
    size, downsample = number(attributes, "patch_size"), number(attributes, "downsample")
    if level0 is not None:
        return level0
    return size * downsample if size and downsample else None  # CLAM counts in pixels of `patch_level`
