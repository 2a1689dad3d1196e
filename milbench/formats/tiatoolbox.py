"""tiatoolbox (2.0 to 2.1.3, DeepFeatureExtractor): `{slide}.zarr`, a group with the arrays `features` and `coordinates`.

`coordinates` [N, 4] are left, top, right and bottom of a patch in pixels of the resolution that was read, which the store
does not tell. A group with `probabilities` is of another engine (PatchPredictor): scores of classes, not features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from milbench.errors import FeatureFileError
from milbench.formats import UNKNOWN, SlideFeatures, SlideHeader
from milbench.formats.shapes import bag_shape, fitting, misfit, tensor
from milbench.formats.zarr_store import feature_array, feature_values, opened, refuse_lost_chunks, stored_array

NAME = "tiatoolbox"
FEATURES, PLACES, SCORES = "features", "coordinates", "probabilities"


def recognises(store: Path) -> bool:
    """Whether a store has tiatoolbox's arrays at its top."""
    return (store / PLACES).is_dir() and any((store / name).is_dir() for name in (FEATURES, SCORES))


class Bounds(NamedTuple):
    """Left, top, right and bottom [N, 4] of all patches, or why they cannot be used."""

    values: np.ndarray
    problem: str = ""

    @property
    def edge(self) -> float | None:
        """Edge of a patch in the unit of its coordinates; None if patches are no squares of one size."""
        edges = np.unique(self.values[:, 2:] - self.values[:, :2])
        return float(edges[0]) if len(edges) == 1 and edges[0] > 0 else None


NOWHERE = np.empty((0, 4))


def read(path: Path) -> SlideFeatures:
    """Features [N, D] and top-left corners of one store."""
    with opened(path) as group:
        bag = tensor(feature_values(path, _features(path, group), FEATURES))
        bounds = _bounds(path, group, len(bag))
    if bounds.problem:
        return SlideFeatures(bag, unit=UNKNOWN, coords_problem=bounds.problem)
    places = fitting(bounds.values[:, :2], len(bag), UNKNOWN)
    return SlideFeatures(bag, places.coords, bounds.edge, UNKNOWN, coords_problem=places.problem)


def head(path: Path) -> SlideHeader:
    """Sizes of one store; of its values, only the coordinates are read."""
    with opened(path) as group:
        features = _features(path, group)
        n_patches, width = bag_shape(path, features.shape)
        bounds = _bounds(path, group, n_patches)
        return SlideHeader(n_patches, width, str(features.dtype), UNKNOWN, bounds.edge, coords_problem=bounds.problem)


def _features(path: Path, group: Any) -> Any:
    if FEATURES not in group and SCORES in group:
        raise FeatureFileError(
            f"{path} holds '{SCORES}', the scores of tiatoolbox's classifiers, not features. Run its DeepFeatureExtractor."
        )
    return feature_array(path, group, FEATURES)


def _bounds(path: Path, group: Any, n_patches: int) -> Bounds:
    """Bounds of `n_patches` patches; what is wrong with them stops maps and no training."""
    try:
        stored = stored_array(path, group, PLACES)
        refuse_lost_chunks(path, stored, PLACES)
    except FeatureFileError as error:
        return Bounds(NOWHERE, str(error))
    if len(stored.shape) != 2 or stored.shape[1] != 4:
        return Bounds(
            NOWHERE, f"coordinates have shape {stored.shape}; expected left, top, right, bottom: (patches, 4)"
        )
    problem = misfit((stored.shape[0], 2), np.dtype(stored.dtype).name, n_patches)
    return Bounds(NOWHERE if problem else np.asarray(stored[...]), problem)
