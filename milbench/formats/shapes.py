"""Shapes that extractors leave behind, made one: axes of length 1 are dropped, and a single vector is a bag too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from milbench.errors import FeatureFileError
from milbench.formats import CENTRES, PIXELS

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LARGEST_PLACE = 2**32
"""Larger than any coordinate: a slide with so many pixels per edge does not exist."""

ROUNDED = ("float16", "bfloat16")
"""Types that keep two or three digits: too few for a place on a slide."""

NUMBERS, UNKNOWN_TO_TORCH = ("int", "uint", "float", "bfloat"), ("float96", "float128")
"""How the names of types begin that coordinates may have, and those among them that torch does not know."""


class Coordinates(NamedTuple):
    """Coordinates [N, 2], or why there are none to use: training needs none, so that odd ones stop a map only."""

    coords: Tensor | None
    problem: str = ""


def bag_shape(path: Path, shape: Sequence[int]) -> tuple[int, int]:
    """(N, D) of a bag stored as `shape`: (1, N, D), (N, 1, D), (N, D, 1, 1) and a vector (D,) are bags; (0,) is empty.

    Raises
    ------
    FeatureFileError : more than two axes that are longer than 1, or a single number.
    """
    if len(shape) == 1:
        return (1, shape[0]) if shape[0] else (0, 0)
    axes = _two_axes(list(shape))
    if len(axes) != 2:
        raise FeatureFileError(
            f"{path}: features have shape {tuple(shape)}, expected (patches, width). Keep one vector per patch "
            "(the mean of its positions, or its class token) and save this slide again."
        )
    return axes[0], axes[1]


def _two_axes(axes: list[int]) -> list[int]:
    """`axes` without those of length 1: pooled positions behind the width, then a batch, then any in between."""
    pooled = len(axes) > 3
    while len(axes) > 2 and axes[-1] == 1 and pooled:
        axes = axes[:-1]
    while len(axes) > 2 and axes[0] == 1:
        axes = axes[1:]
    while len(axes) > 2 and 1 in axes[1:]:
        last = len(axes) - 1 - axes[::-1].index(1)
        axes = axes[:last] + axes[last + 1 :]
    return axes


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether features may have this type: torch knows no float of more than 64 bits."""
    return dtype.kind == "f" and dtype.itemsize <= np.dtype(np.float64).itemsize


def kind_of(dtype: np.dtype[Any]) -> str:
    """A dtype's name. NumPy knows no bfloat16, and stores such values as two raw bytes each."""
    return "bfloat16 as two raw bytes per value" if dtype.kind == "V" and dtype.itemsize == 2 else str(dtype)


def as_bag(path: Path, features: Tensor) -> Tensor:
    """Features [N, D], a view of `features`; raises as `bag_shape`."""
    return features.reshape(bag_shape(path, features.shape))


def tensor(array: np.ndarray) -> Tensor:
    """`array` as a tensor of its own dtype in this machine's byte order."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def fitting(stored: np.ndarray | Tensor, n_patches: int, unit: str) -> Coordinates:
    """Coordinates [N, 2] of `n_patches` patches: int64 if they are level-0 pixels, else in their stored dtype."""
    kind = str(stored.dtype).removeprefix("torch.") if isinstance(stored, Tensor) else stored.dtype.name
    if problem := misfit(stored.shape, kind, n_patches):
        return Coordinates(None, problem)
    coords = (stored.numpy() if isinstance(stored, Tensor) else stored).reshape(n_patches, 2)
    is_whole = coords.dtype.kind in "iu"
    if not is_whole and not np.isfinite(coords).all():
        return Coordinates(None, "coordinates are NaN or infinite")
    if coords.size and (largest := max(-coords.min().item(), coords.max().item())) > LARGEST_PLACE:
        return Coordinates(None, f"coordinates reach {largest:.3g}, and no slide is so large")
    in_pixels = unit in (PIXELS, CENTRES)
    if in_pixels and not is_whole and not np.array_equal(coords, np.trunc(coords)):
        return Coordinates(None, f"coordinates are {kind} with fractions; expected whole level-0 pixels")
    dtype = np.dtype(np.int64) if in_pixels else coords.dtype.newbyteorder("=")
    return Coordinates(torch.from_numpy(np.ascontiguousarray(coords, dtype)))


def misfit(shape: Sequence[int], dtype: str, n_patches: int) -> str:
    """What is wrong with coordinates, as far as a header tells; empty if they fit `n_patches` patches."""
    if 0 in shape:
        return f"{n_patches} patches but no coordinates" if n_patches else ""
    axes = (1, *shape) if len(shape) == 1 else tuple(_two_axes(list(shape)))
    if len(axes) != 2 or axes[1] != 2 or not dtype.startswith(NUMBERS) or dtype in UNKNOWN_TO_TORCH:
        return f"coordinates are {dtype} of shape {tuple(shape)}; expected x and y, (patches, 2)"
    if axes[0] != n_patches:
        return f"{n_patches} patches but {axes[0]} coordinates"
    return f"coordinates are {dtype}, which rounds them; expected whole numbers or float32" if dtype in ROUNDED else ""


def lie_at_one_place(coords: Tensor) -> bool:
    """Whether several patches have one place among them: no extractor means that."""
    return len(coords) > 1 and bool((coords == coords[0]).all())


def truth_problem(dtype: str, shape: Sequence[int], n_patches: int) -> str:
    """What is wrong with a truth per patch, as far as a header tells; empty if it fits `n_patches` patches."""
    is_number = dtype.startswith(("bool", *NUMBERS)) and dtype not in UNKNOWN_TO_TORCH
    if is_number and shape and shape[0] == n_patches:
        return ""
    return (
        f"is {dtype} of shape {tuple(shape)}; expected numbers of shape ({n_patches}, tasks). "
        "Delete them or write them again."
    )
