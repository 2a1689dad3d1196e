"""Usual layers: those that functions of whole layers may compute from their parameters, past the modules themselves.

Such a function does not call a module. So it would miss what a hook on the module does, and it would compute the layer that a
model is made with where somebody has put another one in its place. Where a layer is not usual, its module is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain, repeat
from operator import contains
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.nn.modules import module as of_all_modules
from torch.utils.hooks import RemovableHandle
from torch.utils.module_tracker import ModuleTracker

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import Linear


def is_listened_to(layer: nn.Module) -> bool:
    """Whether a hook on the layer, or on all modules, wants to be called in its forward or backward."""
    return _has_hooks(layer.__dict__) or are_all_listened_to()


def _has_hooks(own: dict[str, Any]) -> bool:
    """Whether a module with these attributes has a hook. Asking the dictionary takes a third of the time of asking the module."""
    return bool(own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"])


def are_all_listened_to() -> bool:
    """Whether a hook on all modules listens. torch's counter of operations has one that only tells modules apart: it counts what runs."""
    if not of_all_modules._has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    hooks = chain.from_iterable(getattr(of_all_modules, f"_global_{kind}_hooks").values() for kind in HOOKS)
    return not all(isinstance(getattr(hook, "__self__", None), ModuleTracker) for hook in hooks)


HOOKS = "forward", "forward_pre", "backward", "backward_pre"
"""Kinds of hooks."""


def is_usual(layer: object, kind: type[nn.Module]) -> bool:
    """Whether the layer computes what this class computes, and nobody listens to it.

    A layer with a parametrisation does: its weight is asked for, as its module would.
    """
    if not isinstance(layer, nn.Module) or type(layer).forward is not kind.forward:
        return False
    return not _has_own_forward(layer.__dict__) and not is_listened_to(layer)


def are_linear(*layers: object) -> bool:
    """Whether all are usual Linear layers."""
    if are_all_listened_to():
        return False
    for layer in layers:
        if not isinstance(layer, nn.Module) or type(layer).forward not in _LINEAR:
            return False
        if _has_hooks(layer.__dict__) or _has_own_forward(layer.__dict__):
            return False
    return True


_LINEAR = Linear.forward, nn.Linear.forward


def is_made_of(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module and all that it is made of, part by part in their order, are usual layers of these classes.

    Experts are asked for this in each step. So what a module is made of is remembered, and read anew where it has changed.
    """
    if are_all_listened_to():
        return False
    tree = _TREES.get(module)
    if tree is None or not tree.is_of(module):
        tree = _TREES[module] = _Tree(module)
    return not tree.is_changed and tree.forwards == _forwards_of(kinds)


class _Tree:
    """What a module was made of when somebody asked. It does not keep the module alive.

    Attributes
    ----------
    is_changed : whether a part has a hook or a forward of its own. Then it is never remembered.
    forwards : of the classes of the module and all its parts, part by part in their order.
    """

    def __init__(self, module: nn.Module) -> None:
        parts = list(_parts_of(module))
        self.n_handles = RemovableHandle.next_id
        self.kind, self.below, self.kinds = type(module), parts[1:], list(map(type, parts[1:]))
        self.attributes = [part.__dict__ for part in parts]
        self.children = [part._modules for part in parts]
        self.layers = list(chain.from_iterable(map(dict.values, self.children)))
        self.hooks = [own[f"_{kind}_hooks"] for own in self.attributes for kind in HOOKS]
        self.is_changed = any(self.hooks) or any(map(_has_own_forward, self.attributes))
        forwards = [type(part).forward for part in parts]
        self.forwards = [Linear.forward if forward is nn.Linear.forward else forward for forward in forwards]

    def is_of(self, module: nn.Module) -> bool:
        """Whether the module is still made of the same parts, of the same classes, and nobody has put a hook on any module since.

        It goes over lists without a loop in Python. torch numbers all hooks, so one that is new has raised the next number.
        """
        if self.is_changed or self.n_handles != RemovableHandle.next_id or any(self.hooks):
            return False
        if type(module) is not self.kind or any(map(contains, self.attributes, repeat("forward"))):
            return False
        layers = list(chain.from_iterable(map(dict.values, self.children)))
        return layers == self.layers and list(map(type, self.below)) == self.kinds


_TREES: WeakKeyDictionary[nn.Module, _Tree] = WeakKeyDictionary()


def _parts_of(module: nn.Module) -> Iterator[nn.Module]:
    """The module and all that it is made of, part by part in their order."""
    yield module
    for part in module._modules.values():
        if part is not None:  # else a layer was taken out
            yield from _parts_of(part)


def _has_own_forward(own: dict[str, Any]) -> bool:
    """Whether somebody gave a module with these attributes a forward in place of its class's, and not `recomputing` did."""
    return "forward" in own and not getattr(own["forward"], "computes_the_same", False)


@cache
def _forwards_of(kinds: tuple[type[nn.Module], ...]) -> list[Callable[..., Any]]:
    return [kind.forward for kind in kinds]


def are_relu(*layers: object) -> bool:
    """Whether all are usual ReLUs."""
    return all(is_usual(layer, nn.ReLU) for layer in layers)


def are_dropout(*layers: object) -> bool:
    """Whether all are usual and milbench's own: the masks of others cannot be had before their product."""
    return all(is_usual(layer, Dropout) for layer in layers)
