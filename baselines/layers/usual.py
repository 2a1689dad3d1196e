"""Usual layers: those that functions of whole layers may compute from their parameters, past the modules themselves.

Such a function does not call a module. So it would miss what a hook on the module does, and it would compute the layer that a
model is made with where somebody has put another one in its place. Where a layer is not usual, its module is called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import Linear


def is_listened_to(layer: nn.Module) -> bool:
    """Whether a hook on the layer wants to be called in its forward or backward."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def is_usual(layer: object, kind: type[nn.Module]) -> bool:
    """Whether the layer computes what this class computes, and nobody listens to it.

    A layer with a parametrisation does: its weight is asked for, as its module would.
    """
    return isinstance(layer, nn.Module) and type(layer).forward is kind.forward and not is_listened_to(layer)


def are_linear(*layers: object) -> bool:
    """Whether all are usual Linear layers."""
    return all(is_usual(layer, Linear) or is_usual(layer, nn.Linear) for layer in layers)


def is_made_of(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module and all that it is made of, part by part in their order, are usual layers of these classes.

    Experts are asked for this in each step. So it is faster than a question for each layer.
    """
    left: list[nn.Module | None] = [module]
    found: list[Callable[..., Any]] = []
    while left:
        part = left.pop()
        if part is None:  # a layer that was taken out
            continue
        own = part.__dict__  # a third of the time that asking for each attribute takes
        if own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"]:
            return False
        forward = type(part).forward
        found.append(Linear.forward if forward is nn.Linear.forward else forward)
        if own["_modules"]:
            left.extend(reversed(own["_modules"].values()))
    return found == _forwards_of(kinds)


@cache
def _forwards_of(kinds: tuple[type[nn.Module], ...]) -> list[Callable[..., Any]]:
    return [kind.forward for kind in kinds]


def are_relu(*layers: object) -> bool:
    """Whether all are usual ReLUs."""
    return all(is_usual(layer, nn.ReLU) for layer in layers)


def are_dropout(*layers: object) -> bool:
    """Whether all are usual and milbench's own: the masks of others cannot be had before their product."""
    return all(is_usual(layer, Dropout) for layer in layers)
