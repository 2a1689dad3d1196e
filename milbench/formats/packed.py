"""milbench's own layout, made by `milbench data pack`: one contiguous dataset a slide, the fastest to read.

`features` float16 or float32 without chunks or compression, `coords` if there were any, and on the file the
attributes `milbench_pack` (version), `sha256` (of the features' bytes), `unit`, `patch_size`, `encoder`,
`magnification`, `source_dtype` and `source` (identity of the file that it was made from).
"""

from __future__ import annotations

from pathlib import Path

import h5py

from milbench.formats import UNKNOWN
from milbench.formats.hdf5 import StoredCoords, StoredSlide, feature_dataset, number, optional, text, values

NAME = "milbench pack"
MARK = "milbench_pack"


def recognises(path: Path, file: h5py.File) -> bool:
    """Whether `milbench data pack` made this file."""
    return MARK in file.attrs


def describe(path: Path, file: h5py.File) -> StoredSlide:
    """Where a pack keeps a slide."""
    stored, attributes = optional(path, file, "coords"), file.attrs
    unit, size = text(attributes, "unit") or UNKNOWN, number(attributes, "patch_size")
    return StoredSlide(
        feature_dataset(path, file, "features"),
        None if stored is None else StoredCoords(lambda: values(stored), unit, size),
        encoder=text(attributes, "encoder"),
        magnification=number(attributes, "magnification"),
        instance_labels=optional(path, file, "instance_labels"),
    )
