"""A residual block of DTFD-MIL's reduction."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """x + ReLU(Linear(ReLU(Linear x))) [N, L], no biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.block = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """[N, L]."""
        return x + self.block(x)  # type: ignore[no-any-return]
