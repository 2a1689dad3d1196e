"""Places: where a slide's patches lie, in one unit, as squares with a top-left corner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from milbench.errors import DataError

if TYPE_CHECKING:
    from milbench.bag import Bag

PIXELS, CENTRES = "level-0 px", "level-0 px, patch centres"
"""As in :mod:`milbench.formats`, which reaches torch."""


@dataclass(frozen=True, eq=False)
class Places:
    """Squares of N patches.

    Attributes
    ----------
    corners : float64 [N, 2]. Top-left corner (x, y) in `unit`.
    patch_size : edge of a patch in `unit`.
    unit : "level-0 px" where the places can be laid over the slide.
    is_guessed : whether the patch size was read from the distances, as the feature file does not tell it.
    """

    corners: NDArray[np.float64]
    patch_size: float
    unit: str = PIXELS
    is_guessed: bool = False

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom end of all patches."""
        left, top = self.corners.min(axis=0)
        right, bottom = self.corners.max(axis=0) + self.patch_size
        return float(left), float(top), float(right), float(bottom)


def places_of(bag: Bag) -> Places:
    """Where the bag's patches lie.

    Raises
    ------
    DataError : the feature file holds no coordinates.
    """
    if bag.coords is None:
        raise DataError(
            f"slide '{bag.slide_id}' has no coordinates, so its patches cannot be drawn. Extract it again with "
            "coordinates (CLAM's .h5, TRIDENT, STAMP), or take the bare numbers with --export attention.h5."
        )
    corners = bag.coords.numpy().astype(np.float64)
    size = bag.patch_size or smallest_distance(corners)
    if bag.coords_unit == CENTRES:
        return Places(corners - size / 2, size, PIXELS, is_guessed=bag.patch_size is None)
    return Places(corners, size, bag.coords_unit, is_guessed=bag.patch_size is None)


def smallest_distance(corners: NDArray[Any]) -> float:
    """Smallest step between two columns or rows of corners [N, 2]; 1 where there is but one patch."""
    steps = np.concatenate([np.diff(np.unique(corners[:, axis])) for axis in (0, 1)])
    return float(steps.min()) if len(steps) else 1.0
