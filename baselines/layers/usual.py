"""Usual layers: those that functions of whole layers may compute from their parameters, past the modules themselves.

Such a function does not call a module. So it would miss what a hook on the module does, and it would compute the layer that a
model is made with where somebody has put another one in its place. Where a layer is not usual, its module is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import chain, repeat
from operator import contains, is_
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


Kind = type[nn.Module] | tuple[Any, ...]
"""Of a usual layer: its class, or what `_computes` says of one that has parts or settings of its own."""


def convolution(kernel: tuple[int, int], *, bias: bool, padding: tuple[int, int] | None = None) -> Kind:
    """Kind of a `nn.Conv2d` that leaves the size as it is, each channel on its own, or all together if the kernel is 1 x 1.

    `padding` is what it puts around by itself, if it is not half a kernel of zeros.
    """
    around = (kernel[0] // 2, kernel[1] // 2) if padding is None else padding
    return nn.Conv2d.forward, bias, kernel, around


def is_usual(layer: object, kind: Kind) -> bool:
    """Whether the layer computes what a layer of this kind computes in our models, and nobody listens to it.

    A layer with a parametrisation does: its weight is asked for, as its module would.
    """
    (wanted,) = _all_wanted((kind,))
    if not isinstance(layer, nn.Module) or type(layer).forward is not wanted[0]:
        return False
    if _has_own_forward(layer.__dict__) or is_listened_to(layer):
        return False
    return len(wanted) == 1 or _computes(layer) == wanted


def are_linear(*layers: object, bias: bool = True) -> bool:
    """Whether all are usual Linear layers, with a bias or all without one."""
    if are_all_listened_to():
        return False
    for layer in layers:
        if not isinstance(layer, nn.Module) or type(layer).forward not in _LINEAR:
            return False
        if _has_hooks(layer.__dict__) or _has_own_forward(layer.__dict__) or _has(layer, "bias") != bias:
            return False
    return True


_LINEAR = Linear.forward, nn.Linear.forward

EPS = 1e-5
"""Of a usual `nn.LayerNorm`: experts side by side share it."""


def is_made_of(module: nn.Module, *kinds: Kind) -> bool:
    """Whether a module and all that it is made of, part by part in their order, are usual layers of these kinds.

    Experts are asked for this in each step. So what a module is made of is remembered, and read anew where it has changed.
    """
    if are_all_listened_to():
        return False
    tree = _TREES.get(module)
    if tree is None or not tree.is_of(module):
        tree = _TREES[module] = _Tree(module)
    return not tree.is_changed and tree.computes == _all_wanted(kinds)


class _Tree:
    """What a module was made of when somebody asked. It does not keep the module alive.

    Attributes
    ----------
    is_changed : whether a part has a hook or a forward of its own. Then it is never remembered.
    computes : `_computes` of the module and all its parts, part by part in their order.
    """

    def __init__(self, module: nn.Module) -> None:
        parts = list(_parts_of(module))
        self.n_handles = RemovableHandle.next_id
        self.kind, self.below, self.kinds = type(module), parts[1:], list(map(type, parts[1:]))
        self.attributes = [part.__dict__ for part in parts]
        self.children = [part._modules for part in parts]
        self.parameters = [part._parameters for part in parts if part._parameters]
        self.lacks = _missing(self.parameters)
        self.layers = list(chain.from_iterable(map(dict.values, self.children)))
        self.hooks = [own[f"_{kind}_hooks"] for own in self.attributes for kind in HOOKS]
        self.is_changed = any(self.hooks) or any(map(_has_own_forward, self.attributes))
        self.computes = list(map(_computes, parts))

    def is_of(self, module: nn.Module) -> bool:
        """Whether the module is still made of the same parts, of the same classes, and nobody has put a hook on any module since.

        It goes over lists without a loop in Python. torch numbers all hooks, so one that is new has raised the next number.
        """
        if self.is_changed or self.n_handles != RemovableHandle.next_id or any(self.hooks):
            return False
        if type(module) is not self.kind or any(map(contains, self.attributes, repeat("forward"))):
            return False
        layers = list(chain.from_iterable(map(dict.values, self.children)))
        if layers != self.layers or list(map(type, self.below)) != self.kinds:
            return False
        return _missing(self.parameters) == self.lacks


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


def _missing(parameters: list[dict[str, Any]]) -> list[bool]:
    """Which of these parameters are None."""
    return list(map(is_, chain.from_iterable(map(dict.values, parameters)), repeat(None)))


def _computes(layer: nn.Module) -> tuple[Any, ...]:
    """What functions of whole layers must know of a layer beside its numbers: the forward of its class, its parts and settings."""
    forward = type(layer).forward
    if forward in _LINEAR:
        return Linear.forward, _has(layer, "bias")
    if forward is nn.Conv1d.forward:
        return forward, _has(layer, "bias")
    if forward is nn.LayerNorm.forward:
        return forward, _has(layer, "weight"), _has(layer, "bias"), layer.eps
    if forward is nn.Conv2d.forward:
        return _convolves(layer)
    return (forward,)


def _convolves(layer: Any) -> tuple[Any, ...]:
    each = 1 if layer.kernel_size == (1, 1) else layer.in_channels
    is_plain = layer.stride == layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    if not is_plain or type(layer)._conv_forward is not nn.Conv2d._conv_forward or layer.groups != each or layer.in_channels != layer.out_channels:
        return (nn.Conv2d.forward,)
    return nn.Conv2d.forward, _has(layer, "bias"), layer.kernel_size, layer.padding


def _has(layer: nn.Module, name: str) -> bool:
    """Whether the layer has this parameter. Asking its dictionary takes less time, but one with a parametrisation is not in there."""
    own = layer._parameters
    return (own[name] if name in own else getattr(layer, name, None)) is not None


def _wanted(kind: Kind) -> tuple[Any, ...]:
    """What `_computes` says of a usual layer of this kind."""
    if isinstance(kind, tuple):
        return kind
    if kind.forward in _LINEAR:
        return Linear.forward, True
    if kind is nn.Conv1d:
        return kind.forward, True
    return (kind.forward, True, True, EPS) if kind is nn.LayerNorm else (kind.forward,)


@cache
def _all_wanted(kinds: tuple[Kind, ...]) -> list[tuple[Any, ...]]:
    return list(map(_wanted, kinds))


def are_relu(*layers: object) -> bool:
    """Whether all are usual ReLUs."""
    return all(is_usual(layer, nn.ReLU) for layer in layers)


def are_dropout(*layers: object) -> bool:
    """Whether all are usual and milbench's own: the masks of others cannot be had before their product."""
    return all(is_usual(layer, Dropout) for layer in layers)
