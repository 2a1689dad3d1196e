"""milbench's own features (`milbench features`): `{slide}.h5` with `features` and `coords`, which tell how they were made.

The file carries the attribute `milbench_features`, the version of the format. Attributes of `features`: `encoder`,
`weights_sha256` (empty if the weights are random, which `weights` then says) and `transform`, a JSON text. Attributes of
`coords` (top-left corners in
level-0 pixels): `patch_size_level0`, `mpp` of the patches as they were read, and `magnification` if it is known. The folder's
`features.json` holds the settings of all files, and `sheets/` pictures to look at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from milbench.errors import FeatureFileError
from milbench.formats.declared import encoder_name, transform_text
from milbench.formats.hdf5 import StoredCoords, StoredSlide, coordinates, feature_dataset, number, size, text, values
from milbench.formats.hdf5_file import Hdf5File, StoredArray

NAME, MARK = "milbench features", "milbench_features"
VERSION = 1
"""Of the format. A later milbench may write another."""


def recognises(path: Path, file: Hdf5File) -> bool:
    """Whether milbench wrote `file`."""
    return MARK in file.attrs


def describe(path: Path, file: Hdf5File) -> StoredSlide:
    """Where milbench keeps a slide.

    Raises
    ------
    FeatureFileError : a later version of milbench wrote the file.
    """
    version = number(file.attrs, MARK)
    if version is not None and version > VERSION:
        raise FeatureFileError(
            f"{path}: a later milbench wrote it, in version {version:g}; this one reads {VERSION}. Update milbench."
        )
    features = feature_dataset(path, file, "features")
    facts: Any = file.attributes_of("coords") if "coords" in file else {}
    return StoredSlide(
        features,
        coordinates(path, file, _coords),
        encoder=encoder_name(text(features.attrs, "encoder"), text(features.attrs, "weights")),
        magnification=size(facts, "magnification"),
        mpp=size(facts, "mpp"),
        weights_sha256=text(features.attrs, "weights_sha256"),
        transform=transform_text(text(features.attrs, "transform")),
    )


def _coords(stored: StoredArray) -> StoredCoords:
    edge = size(stored.attrs, "patch_size_level0")
    return StoredCoords(lambda: values(stored), stored.shape, stored.dtype.name, patch_size=edge)
