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
    targets : float32 Tensor [S, n, T], as `FittedEndpoint.targets`: 0 or 1 of a binary task; 0 where unknown.
    known : float32 Tensor [S, n, T], weight of each loss: 0 where the label is unknown, else 1 unless losses are weighted.
    raw : float64 [S, n, T], the labels themselves, NaN where unknown; None = they are what `targets` and `known` say.
    patient_ids : of each slide; empty = each slide is a patient of its own.
    """

    slide_ids: tuple[str, ...]
    targets: Tensor
    known: Tensor
    raw: NDArray[np.float64] | None = None
    patient_ids: tuple[str, ...] = ()

    def index_by_slide(self) -> dict[str, int]:
        """Position in `slide_ids` of each slide."""
        return {slide: index for index, slide in enumerate(self.slide_ids)}

    def labels(self, row: int = 0) -> NDArray[np.float64]:
        """Labels [n, T] of one trial with NaN where unknown."""
        if self.raw is not None:
            labels: NDArray[np.float64] = self.raw[row]
            return labels
        known = self.known[row].cpu().numpy() == 1
        return np.where(known, self.targets[row].cpu().numpy().astype(np.float64), np.nan)

    def to(self, device: torch.device) -> Side:
        """The same side with its labels on `device`."""
        return self._replace(targets=self.targets.to(device), known=self.known.to(device))

    def of(self, rows: Sequence[int]) -> Side:
        """The same side as some of the trials see it."""
        raw = None if self.raw is None else self.raw[list(rows)]
        return self._replace(targets=self.targets[list(rows)], known=self.known[list(rows)], raw=raw)


def balanced_weights(labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [n] under which each class of a task counts as much as any other: N / (C n_k) for a slide of class k.

    N slides have a known label, n_k of them class k, and C classes occur. Where the label is unknown, the weight is 1.
    """
    weights, known = np.ones(len(labels)), ~np.isnan(labels)
    classes, place, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    weights[known] = known.sum() / (len(classes) * counts[place])
    return weights
