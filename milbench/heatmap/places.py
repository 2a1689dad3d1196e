"""Places: where a slide's patches lie, in one unit, as squares with a top-left corner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from milbench.errors import DataError
from milbench.patch_size import guessed_size

if TYPE_CHECKING:
    from milbench.bag import Bag

PIXELS, CENTRES = "level-0 px", "level-0 px, patch centres"
"""As in :mod:`milbench.formats`, which reaches torch."""

LEAST_AGREEMENT = 0.5
"""Share of the patches that must bear a guessed size out before polygons are drawn from it."""


@dataclass(frozen=True, eq=False)
class Places:
    """Squares of N patches.

    Attributes
    ----------
    corners : float64 [N, 2]. Top-left corner (x, y) in `unit`.
    patch_size : edge of a patch in `unit`.
    unit : "level-0 px" where the places can be laid over the slide.
    is_guessed : whether the patch size was read from the distances, as nothing tells it.
    agreement : share of the patches whose nearest neighbour in their row or column lies a whole number of such patches
        away; 1 where the size is known.
    """

    corners: NDArray[np.float64]
    patch_size: float
    unit: str = PIXELS
    is_guessed: bool = False
    agreement: float = 1.0

    @property
    def is_doubtful(self) -> bool:
        """Whether the patch size is a guess that half of the patches contradict."""
        return self.is_guessed and self.agreement <= LEAST_AGREEMENT

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom end of all patches."""
        left, top = self.corners.min(axis=0)
        right, bottom = self.corners.max(axis=0) + self.patch_size
        return float(left), float(top), float(right), float(bottom)


def places_of(bag: Bag, patch_size: float | None = None) -> Places:
    """Where the bag's patches lie; `patch_size` is the edge that the user states, in the unit of the coordinates.

    Raises
    ------
    DataError : the feature file holds no coordinates, none that fit its patches, or one place for all.
    """
    if bag.coords is None:
        what = (
            f"has coordinates that cannot be used ({bag.coords_problem})"
            if bag.coords_problem
            else "has no coordinates"
        )
        raise DataError(
            f"slide '{bag.slide_id}' {what}, so its patches cannot be drawn. Extract it again with "
            "coordinates (CLAM's .h5, TRIDENT, STAMP), or take the bare numbers with --export attention.h5."
        )
    corners = bag.coords.numpy().astype(np.float64)
    if len(corners) > 1 and (corners == corners[0]).all():
        raise DataError(
            f"slide '{bag.slide_id}' has all its {len(corners)} patches at one place, so they cannot be drawn. Extract it "
            "again with coordinates, or take the bare numbers with --export attention.h5."
        )
    known = patch_size or bag.patch_size
    size, agreement = (known, 1.0) if known else guessed_size(corners)
    unit, shift = (PIXELS, size / 2) if bag.coords_unit == CENTRES else (bag.coords_unit, 0.0)
    return Places(corners - shift, size, unit, is_guessed=not known, agreement=agreement)
