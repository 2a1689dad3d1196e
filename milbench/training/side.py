"""Side: the training, validation or test slides of a fold, with the labels that S trials see of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Side(NamedTuple):
    """One side of a fold as S trials see it.

    Attributes
    ----------
    slide_ids : n of them, each once.
    targets : float32 Tensor [S, n, T] in {0, 1}, 0 where unknown.
    known : float32 Tensor [S, n, T], 1 where the label is known.
    """

    slide_ids: tuple[str, ...]
    targets: Tensor
    known: Tensor

    def index_by_slide(self) -> dict[str, int]:
        """Position in `slide_ids` of each slide."""
        return {slide: index for index, slide in enumerate(self.slide_ids)}

    def labels(self, row: int = 0) -> NDArray[np.float64]:
        """Targets [n, T] of one trial with NaN where unknown."""
        known = self.known[row].cpu().numpy() == 1
        return np.where(known, self.targets[row].cpu().numpy().astype(np.float64), np.nan)

    def to(self, device: torch.device) -> Side:
        """The same side with its labels on `device`."""
        return self._replace(targets=self.targets.to(device), known=self.known.to(device))

    def of(self, rows: Sequence[int]) -> Side:
        """The same side as some of the trials see it."""
        return self._replace(targets=self.targets[list(rows)], known=self.known[list(rows)])
