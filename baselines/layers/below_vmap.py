"""Functions of all stacked models and all their bags at once, entered below the vmaps around them.

Inside vmap, torch enters a `torch.autograd.Function` once per vmap and once more below, each time with a walk over all that goes in
and comes out, and so for what its backward needs too. That takes longer than a small bag's products. Here all dimensions
of vmap are put in front at once, and the function sees plain tensors. The results are those of its own rule for vmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

try:  # torch promises none of these
    from torch._C import _functorch as functorch
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
except ImportError:
    functorch = temporarily_clear_interpreter_stack = None  # type: ignore[assignment]


NEEDED = (
    "get_interpreter_stack", "TransformType", "CVmapInterpreterPtr", "is_batchedtensor", "maybe_get_level", "maybe_get_bdim",
    "get_unwrapped", "_add_batch_dim",
)  # fmt: skip
KNOWS_TORCH = functorch is not None and all(hasattr(functorch, name) for name in NEEDED)
"""Whether this torch has what is needed here. Without it, functions go through their own rules for vmap, which takes longer."""


def applied(
    function: type[Any], options: Sequence[Any], rows: Sequence[Tensor | None], parameters: Sequence[Tensor], *, n_outputs: int
) -> tuple[Tensor, ...]:
    """The first outputs of ``function.apply(*options, *rows, *parameters)``.

    Below S stacked models and B bags, the function gets rows [S, B, ...], with parameters [S, 1, ...] or [1, 1, ...], and its
    outputs begin with [S, B].

    Parameters
    ----------
    function : which has a rule for vmap of its own, for whatever else `torch.func` does.
    rows : of a bag; they may differ in every vmap around.
    parameters : at least one.
    n_outputs : that are outputs of a bag; the function keeps the others for its backward.
    """
    around = _sizes_of_vmaps()
    if not around:
        # torch's `Function.apply` looks at the names of all arguments first, which takes as long as several operations
        is_plain = not torch._C._are_functorch_transforms_active()
        apply = super(torch.autograd.Function, function).apply if is_plain else function.apply  # type: ignore[misc]
        return tuple(apply(*options, *rows, *parameters)[:n_outputs])
    opened = [None if each is None else _opened(each) for each in (*rows, *parameters)]
    n_rows, levels = len(rows), list(around)
    own = {level for each in opened[n_rows:] if each is not None for level, _ in each[1]}
    innermost = max(own, default=0)  # where parameters differ, and then in all vmaps around it, as S must lead
    of_parameters = {level: size if level <= innermost else 1 for level, size in around.items()}
    with temporarily_clear_interpreter_stack():
        given = [
            None if each is None else _in_front(*each, around if place < n_rows else of_parameters)
            for place, each in enumerate(opened)
        ]
        # torch's `Function.apply` looks at the names of all arguments first
        found = super(torch.autograd.Function, function).apply(*options, *given)  # type: ignore[misc]
    return tuple(_closed(each, levels) for each in found[:n_outputs])


def is_below_vmaps() -> bool:
    """Whether there are vmaps around, and no other transform of `torch.func`."""
    return bool(_sizes_of_vmaps())


def backward_of(function: type[Any], *given: Any) -> Any:
    """``function.apply(*given)``, without its detour where nothing transforms it and no gradient of a gradient is wanted."""
    if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
        return function.apply(*given)
    return function.forward(*given)


def _sizes_of_vmaps() -> dict[int, int]:
    """Size of each vmap around by its level, the outermost first; empty if there is none, or another transform too."""
    if not KNOWS_TORCH:
        return {}
    stack = functorch.get_interpreter_stack() or []
    if any(each.key() != functorch.TransformType.Vmap for each in stack):
        return {}
    return {each.level(): functorch.CVmapInterpreterPtr(each).batchSize() for each in stack}


def _opened(x: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
    """The tensor below all vmaps, with level and place of each vmap's dimension, the outermost first."""
    dims: list[tuple[int, int]] = []
    while functorch.is_batchedtensor(x):
        dims.insert(0, (functorch.maybe_get_level(x), functorch.maybe_get_bdim(x)))
        x = functorch.get_unwrapped(x)
    return x, dims


def _in_front(x: Tensor, dims: Sequence[tuple[int, int]], sizes: dict[int, int]) -> Tensor:
    """The tensor with a dimension of each of the sizes in front."""
    for n, (_, dim) in enumerate(dims):  # an inner dimension's place does not count the outer ones
        x = x.movedim(dim + n, n)
    has = {level for level, _ in dims}
    if len(has) == len(sizes):
        return x
    for place, level in enumerate(sizes):
        if level not in has:
            x = x.unsqueeze(place)
    return x.expand(*sizes.values(), *x.shape[len(sizes) :])


def _closed(x: Tensor, levels: Sequence[int]) -> Tensor:
    """The tensor with its first dimensions as those of the vmaps."""
    for level in levels:
        x = functorch._add_batch_dim(x, 0, level)
    return x
