"""Initialisations that official code applies on top of torch's own."""

from __future__ import annotations

from torch import nn


def xavier(module: nn.Module) -> None:
    """Give every Linear of `module`, in order of definition, Xavier-normal weights and zero biases.

    Source: Bigyehahaha/M4@192a77b, `initialize_weights`.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_normal_(part.weight)
            nn.init.zeros_(part.bias)
