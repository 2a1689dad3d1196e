"""Layers of one shape side by side: a layer a task, applied in one product instead of one after the other."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def stacked(layers: Iterable[nn.Module]) -> tuple[Tensor, Tensor]:
    """Weights [T, O, I] and biases [T, O] of T linear layers."""
    made = list(layers)
    return torch.stack([layer.weight for layer in made]), torch.stack([layer.bias for layer in made])  # type: ignore[misc]


def each_of_one(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """[T, O]: what every layer makes of the one row `x` [I]."""
    weight, bias = stacked(layers)
    return weight @ x + bias


def each_of_its_own(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """[T, O]: what every layer makes of its row of `x` [T, I]."""
    weight, bias = stacked(layers)
    return (weight @ x[..., None])[..., 0] + bias
