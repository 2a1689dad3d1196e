"""Shapes that extractors leave behind, made one: (1, N, D) and a single vector are bags too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from milbench.errors import FeatureFileError
from milbench.formats import CENTRES, PIXELS

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def as_bag(features: Tensor) -> Tensor:
    """Features [N, D]: a batch axis dropped, a vector [D] as a bag of one, an empty vector as an empty bag.

    Any other number of axes is left for `check_features` to refuse.
    """
    if features.ndim == 3 and features.shape[0] == 1:
        return features[0]
    if features.ndim == 1:
        return features[None] if len(features) else features.reshape(0, 0)
    return features


def bag_shape(shape: Sequence[int]) -> tuple[int, int]:
    """(N, D) of what `as_bag` makes of `shape`; odd shapes give (0, 0)."""
    if len(shape) == 3 and shape[0] == 1:
        return shape[1], shape[2]
    if len(shape) == 1:
        return (1, shape[0]) if shape[0] else (0, 0)
    return (shape[0], shape[1]) if len(shape) == 2 else (0, 0)


def coordinates(path: Path, stored: np.ndarray, n_patches: int, unit: str) -> Tensor:
    """Coordinates [N, 2]: int64 if they are level-0 pixels, else in their stored dtype.

    Raises
    ------
    FeatureFileError : another number than patches, another shape, or pixels that are not whole.
    """
    coords = stored[0] if stored.ndim == 3 and stored.shape[0] == 1 else stored
    coords = coords.reshape(0, 2) if coords.size == 0 else coords
    if len(coords) != n_patches:
        raise FeatureFileError(f"{path}: {n_patches} patches but {len(coords)} coordinates. Extract this slide again.")
    whole = unit not in (PIXELS, CENTRES) or coords.dtype.kind in "iu" or _whole(coords)
    if coords.ndim != 2 or coords.shape[1] != 2 or coords.dtype.kind not in "iuf" or not whole:
        raise FeatureFileError(
            f"{path}: 'coords' is {coords.dtype} of shape {coords.shape}; expected whole level-0 pixels (patches, 2). "
            "Extract this slide again."
        )
    kept = (
        coords.astype(np.int64, copy=False)
        if unit in (PIXELS, CENTRES)
        else coords.astype(coords.dtype.newbyteorder("="))
    )
    return torch.from_numpy(kept)


def _whole(coords: np.ndarray) -> bool:
    return coords.dtype.kind == "f" and np.array_equal(coords, np.trunc(coords))
