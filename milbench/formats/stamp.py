"""STAMP (KatherLab/STAMP): `{slide}.h5` with `feats` and `coords` in MICROMETRES, attributes on the file.

=======  ==========================================================================================
version  how a patch's size is known
=======  ==========================================================================================
today    `tile_size_um`; `feat_type` slide or patient means one vector, a bag of one
older    `tile_size` with `unit` = "um"
oldest   no attributes; a stride near 224 means 256 µm patches: micrometres = coords / 224 × 256
=======  ==========================================================================================

No file says how large a pixel is on level 0, so coordinates stay in micrometres. `tile_size_px` tells how many pixels the
extractor saw of a tile. `code_hash` is of STAMP's own code, and tells nothing of the extractor's weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from milbench.formats import MICROMETRES, UNKNOWN
from milbench.formats.hdf5 import (
    StoredCoords,
    StoredSlide,
    coordinates,
    feature_dataset,
    refuse_unwritten,
    size,
    text,
    values,
)
from milbench.formats.hdf5_file import Hdf5File, StoredArray

NAME = "STAMP"
OLDEST_STRIDE, OLDEST_TILE_UM = 224, 256


def recognises(path: Path, file: Hdf5File) -> bool:
    """Whether `file` has STAMP's dataset."""
    return "feats" in file


def describe(path: Path, file: Hdf5File) -> StoredSlide:
    """Where STAMP keeps a slide."""
    one_vector = text(file.attrs, "feat_type") in ("slide", "patient")
    return StoredSlide(
        feature_dataset(path, file, "feats"),
        None if one_vector else coordinates(path, file, lambda stored: _coords(path, file, stored)),
        encoder=text(file.attrs, "extractor") or text(file.attrs, "encoder"),
        mpp=None if one_vector else _mpp(file),
    )


def _mpp(file: Hdf5File) -> float | None:
    """Micrometres per pixel of the tiles as the extractor saw them; None if an older STAMP wrote the file."""
    edge, pixels = size(file.attrs, "tile_size_um"), size(file.attrs, "tile_size_px")
    return edge / pixels if edge and pixels else None


def _coords(path: Path, file: Hdf5File, stored: StoredArray) -> StoredCoords:
    edge = size(file.attrs, "tile_size_um")
    if edge is None and text(file.attrs, "unit") == "um":
        edge = size(file.attrs, "tile_size")
    if edge is not None or text(file.attrs, "unit") == "um":
        return StoredCoords(lambda: values(stored), stored.shape, stored.dtype.name, MICROMETRES, edge)
    refuse_unwritten(path, stored)  # the stride is read where a header is asked for
    if abs(_stride(values(stored)) - OLDEST_STRIDE) < 0.5:
        read, edge = lambda: values(stored) / OLDEST_STRIDE * OLDEST_TILE_UM, float(OLDEST_TILE_UM)
        return StoredCoords(read, stored.shape, stored.dtype.name, MICROMETRES, edge)
    return StoredCoords(lambda: values(stored), stored.shape, stored.dtype.name, UNKNOWN)


def _stride(coords: np.ndarray) -> float:
    """The smallest distance between two columns or rows of patches; 0 where there is one patch only."""
    if coords.dtype.kind not in "iuf" or not np.isfinite(coords).all():
        return 0.0
    steps = [np.diff(np.unique(axis)) for axis in coords.reshape(-1, coords.shape[-1] if coords.ndim else 1).T]
    return min((float(step.min()) for step in steps if len(step)), default=0.0)
