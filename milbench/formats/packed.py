"""milbench's own layout, made by `milbench data pack`: `{slide}.safetensors`, mapped into memory and never copied.

Tensors `features` (float16 or float32), `coords` and `instance_labels` if there were any. The metadata `milbench_pack`
is a JSON text: `version`, `sha256` of the features' bytes, `source` (identity of the file that it was made from),
`source_dtype`, `largest_rounding` (relative to the slide's largest value), `unit`, `patch_size`, `encoder`, `magnification`,
`mpp`, `weights_sha256`, `transform`, `coords_problem`, `order_problem`. All of it enters the cohort's fingerprint with the
file's bytes. Other safetensors files with a tensor `features` are read as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open
from torch import Tensor

from milbench.errors import FeatureFileError
from milbench.formats import UNKNOWN, SlideFeatures, SlideHeader
from milbench.formats.mapped_tensor import all_mapped, located_in_safetensors
from milbench.formats.opening import failing_clearly, listed
from milbench.formats.page_cache import fetch
from milbench.formats.shapes import FLOATS, Coordinates, as_bag, bag_shape, fitting, misfit, truth_problem
from milbench.formats.unchanged import of_content, once_per_content, remember, remembered

NAME, SUFFIX, MARK = "milbench pack", ".safetensors", "milbench_pack"
KIND, FIX = "safetensors file", "Delete it and pack or extract this slide again."
BESIDE = ("coords", "instance_labels")
"""Tensors beside the features, where a slide has them."""
VERSION = 1
"""Of what a pack says of itself. A later milbench may write another."""
TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("version", "patch_size", "magnification", "mpp", "largest_rounding"), (int, float)),
    **dict.fromkeys(
        ("sha256", "source", "unit", "encoder", "weights_sha256", "transform", "coords_problem", "order_problem"), str
    ),
}
"""What a pack says of itself, as far as it is read."""

DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


class _Told(NamedTuple):
    """What a pack says of its slide, as far as a training needs it."""

    unit: str
    patch_size: float | None
    coords_problem: str


def read(path: Path) -> SlideFeatures:
    """Features [N, D], coordinates and truth of one slide; pages are read when they are used."""
    fetch(path)
    with failing_clearly(path, KIND, FIX):
        as_it_is = of_content(path, NAME)
        if (located := remembered(as_it_is)) is not None:
            places, told = located
            return _slide(path, all_mapped(path, places), told)
    with opened(path) as file:
        said, names = facts(file), set(file.keys())
        tensors = {"features": _features(path, file)}
        tensors |= {name: file.get_tensor(name) for name in BESIDE if name in names}
        told = _Told(said.get("unit", UNKNOWN), said.get("patch_size"), said.get("coords_problem", ""))
        slide = _slide(path, tensors, told)
        _note_places(path, as_it_is, tensors, told)
        return slide


def _slide(path: Path, tensors: Mapping[str, Tensor], told: _Told) -> SlideFeatures:
    features = as_bag(path, tensors["features"])
    places = Coordinates(None, told.coords_problem)
    if "coords" in tensors:
        places = fitting(tensors["coords"], len(features), told.unit)
    truth = _truth(path, tensors["instance_labels"], len(features)) if "instance_labels" in tensors else None
    return SlideFeatures(features, places.coords, told.patch_size, told.unit, truth, places.problem)


def _note_places(path: Path, as_it_is: tuple[object, ...], tensors: Mapping[str, Tensor], told: _Told) -> None:
    places = located_in_safetensors(path, tensors)
    if places is not None:
        remember(as_it_is, (places, told))


@once_per_content
def head(path: Path) -> SlideHeader:
    """Sizes of one slide, from the file's header."""
    with opened(path) as file:
        told, names = facts(file), set(file.keys())
        if "features" not in names:
            _features(path, file)
        stored = file.get_slice("features")
        if stored.get_dtype() not in DTYPES:
            _features(path, file)
        n_patches, width = bag_shape(path, stored.get_shape())
        return SlideHeader(
            n_patches,
            width,
            DTYPES.get(stored.get_dtype(), stored.get_dtype()),
            told.get("unit", UNKNOWN) if "coords" in names else "",
            told.get("patch_size"),
            told.get("encoder", ""),
            told.get("magnification"),
            _coords_problem(file, n_patches) if "coords" in names else told.get("coords_problem", ""),
            told.get("mpp"),
            told.get("weights_sha256", ""),
            told.get("transform", ""),
            order_problem=told.get("order_problem", ""),
        )


def _truth(path: Path, stored: Tensor, n_patches: int) -> Tensor:
    if problem := truth_problem(str(stored.dtype).removeprefix("torch."), stored.shape, n_patches):
        raise FeatureFileError(f"{path}: 'instance_labels' {problem}")
    return stored.reshape(n_patches, prod(stored.shape[1:]))


def _coords_problem(file: Any, n_patches: int) -> str:
    stored = file.get_slice("coords")
    dtype = str(stored.get_dtype())
    name = DTYPES.get(dtype, dtype.replace("U", "uint").replace("I", "int"))
    return misfit(stored.get_shape(), name, n_patches)


def facts(file: Any) -> dict[str, Any]:
    """What a pack says of itself; empty where another tool made the file.

    Raises
    ------
    ValueError : it says something that `data pack` never writes.
    """
    told = json.loads((file.metadata() or {}).get(MARK, "{}"))
    if not isinstance(told, dict):
        return {}
    for key, expected in TYPES.items():
        value = told.get(key)
        is_odd = not isinstance(value, expected) or (isinstance(value, float) and not isfinite(value))
        is_odd = is_odd or (key == "patch_size" and value is not None and value <= 0)
        if value is not None and is_odd:
            raise ValueError(f"its {key} is {str(value)[:40]}, which `milbench data pack` never writes")
    if (told.get("version") or VERSION) > VERSION:
        raise ValueError(f"a later milbench packed it, in version {told['version']}; this one reads {VERSION}")
    return told


def checksum_problem(path: Path) -> str:
    """What is wrong with a pack's bytes; empty if they are as they were written, or `path` is no pack."""
    if path.suffix != SUFFIX:
        return ""
    with opened(path) as file:
        told = facts(file)
        damaged = told and sha256(_features(path, file)) != told.get("sha256")
    return f"{path}: the features' checksum is wrong, the file was damaged" if damaged else ""


def sha256(features: Tensor) -> str:
    """Hash of the features' bytes, as `data pack` stores it."""
    return hashlib.sha256(np.ascontiguousarray(features.numpy()).data).hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The open file; anything that safetensors dislikes about it becomes a `FeatureFileError`."""
    with failing_clearly(path, KIND, FIX), safe_open(path, framework="pt") as file:
        yield file


def _features(path: Path, file: Any) -> Tensor:
    if "features" not in file.keys():  # noqa: SIM118 - no mapping, it only has keys()
        raise FeatureFileError(f"{path} has no tensor 'features' (it holds {listed(file.keys())}).")
    features: Tensor = file.get_tensor("features")
    if features.dtype not in FLOATS or features.ndim == 0:
        raise FeatureFileError(
            f"{path}: 'features' is {features.dtype} of shape {tuple(features.shape)}; expected floats (patches, width)."
        )
    return features
