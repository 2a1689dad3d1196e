"""Feature scaling, fitted on training slides only: it sees the bags that it is given and no others."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from milbench.errors import DataError, unknown_name

MODES = ("none", "standard", "minmax", "l2")
FITTED_MODES = ("standard", "minmax")
"""Those that learn from the training slides; the others are the same in every fold."""

ROUNDING = 1e-12
"""Relative spread below which a column is constant: what float64 sums of equal values leave over."""


class FeatureScaler:
    """Maps features [N, D] of any float type to float32 [N, D].

    Parameters
    ----------
    mode : "none"; "standard" (zero mean, unit variance per column); "minmax" (each column to [-1, 1]);
        "l2" (each patch to unit length; needs no fitting). Values beyond the training range are not clipped.

    A column that is constant in training becomes 0 there and keeps its offset elsewhere.
    """

    def __init__(self, mode: str) -> None:
        if mode not in MODES:
            raise unknown_name("feature_scaling", mode, MODES)
        self.mode = mode
        self.offset: Tensor | None = None
        self.scale: Tensor | None = None

    def fit(self, bags: Iterable[Tensor]) -> FeatureScaler:
        """This scaler with column statistics of all patches of `bags`, accumulated in float64.

        Raises
        ------
        DataError : there are no bags to learn a mode's statistics from.
        """
        if self.mode == "standard":
            self._fit_standard(bags)
        elif self.mode == "minmax":
            self._fit_minmax(bags)
        return self

    def __call__(self, features: Tensor) -> Tensor:
        """Scaled float32 features [N, D]."""
        features = features.float()
        if self.mode == "l2":
            return torch.nn.functional.normalize(features, dim=1)
        if self.mode == "none":
            return features
        if self.offset is None or self.scale is None:
            raise DataError(f"feature_scaling '{self.mode}' was used before it was fitted on training slides.")
        return (features - self.offset.to(features.device)) * self.scale.to(features.device)

    def _fit_standard(self, bags: Iterable[Tensor]) -> None:
        """Chan's update of mean and sum of squares, bag by bag, so that large offsets lose no digits."""
        count, mean, squares = 0, torch.zeros(()), torch.zeros(())
        for bag in bags:
            values = bag.double()
            n, bag_mean = len(values), values.mean(0)
            shift = bag_mean - mean
            squares = squares + ((values - bag_mean) ** 2).sum(0) + shift**2 * count * n / (count + n)
            mean = mean + shift * n / (count + n)
            count += n
        self._keep(count, mean, (squares / max(count, 1)).sqrt())

    def _fit_minmax(self, bags: Iterable[Tensor]) -> None:
        count, low, high = 0, torch.tensor(torch.inf), torch.tensor(-torch.inf)
        for bag in bags:
            count += len(bag)
            low, high = torch.minimum(low, bag.double().amin(0)), torch.maximum(high, bag.double().amax(0))
        self._keep(count, (low + high) / 2, (high - low) / 2)

    def _keep(self, count: int, offset: Tensor, spread: Tensor) -> None:
        if count == 0:
            raise DataError(f"feature_scaling '{self.mode}' was given no training slides to be fitted on.")
        varies = spread > ROUNDING * offset.abs()
        self.offset, self.scale = offset.float(), torch.where(varies, 1 / spread, torch.ones_like(spread)).float()
