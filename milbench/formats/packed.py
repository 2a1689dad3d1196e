"""milbench's own layout, made by `milbench data pack`: one contiguous dataset a slide, the fastest to read.

`features` float16 or float32 without chunks or compression, `coords` if there were any, and on the file the
attributes `milbench_pack` (version), `sha256` (of the features' bytes), `unit`, `patch_size`, `encoder`,
`magnification`, `source_dtype`, `source` (identity of the file that it was made from) and `largest_rounding`
(relative to the slide's largest value). All of them enter the cohort's fingerprint with the file's bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np

from milbench.formats import UNKNOWN
from milbench.formats.hdf5 import StoredCoords, StoredSlide, feature_dataset, number, opened, optional, text, values

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


def checksum_problem(path: Path) -> str:
    """What is wrong with a pack's bytes; empty if they are as they were written, or `path` is no pack."""
    if path.suffix != ".h5":
        return ""
    with opened(path) as file:
        if MARK not in file.attrs:
            return ""
        found = sha256(values(file["features"]))
        return (
            ""
            if found == text(file.attrs, "sha256")
            else f"{path}: the features' checksum is wrong, the file was damaged"
        )


def sha256(features: np.ndarray) -> str:
    """Hash of the features' bytes, as `data pack` stores it."""
    return hashlib.sha256(np.ascontiguousarray(features).data).hexdigest()
