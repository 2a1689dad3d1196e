"""TRIDENT (mahmoodlab/TRIDENT): `{mag}x_{ps}px_{ov}px_overlap/features_{encoder}/{slide}.h5`.

`features` float16 or float32 with the attribute `encoder`; `coords` in level-0 pixels with the attributes
`patch_size_level0`, `target_magnification` and others, in the same file or in `../patches/{slide}_patches.h5`.
A value that TRIDENT did not know is the text `None`. Its `.pt` files hold NumPy arrays. `slide_features_{encoder}`
holds one vector (D,) per slide, a bag of one; the coordinates of all patches beside it are none of the vector's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from milbench.errors import FeatureFileError
from milbench.formats import SlideHeader, tensors
from milbench.formats.clam import patch_size
from milbench.formats.hdf5 import (
    StoredCoords,
    StoredSlide,
    coordinates,
    feature_dataset,
    opened,
    optional,
    size,
    text,
    unusable,
    values,
)
from milbench.formats.hdf5_file import Hdf5File, StoredArray

NAME, SLIDE = "TRIDENT", "slide_"
FOLDER = re.compile(r"^(?:patch_|slide_)?features_(?P<encoder>.+)$")
JOB = re.compile(r"^(?P<magnification>\d+(?:\.\d+)?)x_\d+px_\d+px_overlap$")
OWN_ATTRIBUTES = ("target_magnification", "level0_magnification")


def recognises(path: Path, file: Hdf5File) -> bool:
    """Whether `file` has TRIDENT's attributes, or a folder of its naming around it."""
    if "features" not in file:
        return False
    own = "encoder" in file.attributes_of("features") or FOLDER.match(path.parent.name)
    return bool(own or ("coords" in file and any(name in file.attributes_of("coords") for name in OWN_ATTRIBUTES)))


def describe(path: Path, file: Hdf5File) -> StoredSlide:
    """Where TRIDENT keeps a slide."""
    features = feature_dataset(path, file, "features")
    coords = coordinates(path, file, lambda stored: _coords(stored, lambda: values(stored)))
    magnification = size(file.attributes_of("coords"), "target_magnification") if "coords" in file else None
    if coords is None:
        coords, magnification = _beside(path)
    return StoredSlide(
        features,
        None if _is_of_a_slide(path, features) else coords,
        encoder=text(features.attrs, "encoder") or encoder_of(path.parent),
        magnification=magnification or magnification_of(path.parent),
        instance_labels=optional(path, file, "instance_labels"),
    )


def encoder_of(folder: Path) -> str:
    """The encoder that a folder of TRIDENT's naming says, else empty."""
    match = FOLDER.match(folder.name)
    return match["encoder"] if match else ""


def magnification_of(folder: Path) -> float | None:
    """The magnification that the job's folder above `folder` says."""
    match = JOB.match(folder.parent.name)
    return float(match["magnification"]) if match else None


def head_pt(path: Path) -> SlideHeader:
    """Sizes of a `.pt` file, whose folder's names tell encoder and magnification."""
    return tensors.head(path)._replace(encoder=encoder_of(path.parent), magnification=magnification_of(path.parent))


def _coords(stored: StoredArray, read: Callable[[], np.ndarray]) -> StoredCoords:
    return StoredCoords(read, stored.shape, stored.dtype.name, patch_size=patch_size(stored.attrs))


def _is_of_a_slide(path: Path, features: StoredArray) -> bool:
    return path.parent.name.startswith(SLIDE) or len(features.shape) == 1


def _beside(path: Path) -> tuple[StoredCoords | None, float | None]:
    """Coordinates of the patching step, which older versions do not copy into the feature file."""
    patches = path.parent.parent / "patches" / f"{path.stem}_patches.h5"
    if FOLDER.match(path.parent.name) is None or not patches.exists():
        return None, None
    try:
        with opened(patches) as file:
            stored = file.array("coords")
            return _coords(stored, lambda: _read_coords(patches)), size(stored.attrs, "target_magnification")
    except FeatureFileError as error:
        return unusable(str(error)), None


def _read_coords(patches: Path) -> np.ndarray:
    with opened(patches) as file:
        return values(file.array("coords"))
