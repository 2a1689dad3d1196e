"""The arithmetic that a model cannot avoid: its matrix products and convolutions, recorded once and timed alone.

`recorded(step)` runs a step and keeps every matrix product and convolution that PyTorch executes, with the shapes,
strides and dtypes of its operands; `replay(calls)` makes random operands like them, and the function that it
returns does exactly those calls. What a step takes beyond that goes into activations, dropout, softmax, the optimiser,
memory and Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

import milbench_baselines  # noqa: F401 - found also where milbench is not installed
from milbench_baselines.layers import products

aten = torch.ops.aten

PRODUCTS = frozenset(
    {
        aten.mm,
        aten.addmm,
        aten.addmm_,
        aten.bmm,
        aten.baddbmm,
        aten.baddbmm_,
        aten.mv,
        aten.addmv,
        aten.addmv_,
        aten.dot,
        aten.convolution,
        aten.convolution_backward,
    }
)
"""What `nn.Linear`, `@`, `einsum` and convolutions come down to, forward and backward."""

ONE = aten.mm, aten.addmm, aten.addmm_
SEVERAL = aten.bmm, aten.baddbmm, aten.baddbmm_
"""Products that milbench may give to oneDNN: of two matrices, and of several pairs. The factors are the last arguments."""


@dataclass(frozen=True)
class Operand:
    """What a random tensor must have in common with the one of the step: layout matters to a matrix product."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def made(self) -> Tensor:
        """Standard normal values; built on a flat buffer, for expanded tensors share memory with themselves."""
        n_values = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        flat = torch.randn(max(n_values, 1), device=self.device).to(self.dtype)
        return flat.as_strided(self.shape, self.stride)


class Call(NamedTuple):
    """One executed operation with `Operand`s in place of tensors."""

    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Recorder(TorchDispatchMode):
    """Keeps the products that run inside the block, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func.overloadpacket in PRODUCTS:
            self.calls.append(Call(func, *tree_map_only(Tensor, operand, (args, kwargs))))
        return func(*args, **kwargs)


def operand(tensor: Tensor) -> Operand:
    return Operand(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype, tensor.device)


def recorded(step: Callable[[], object]) -> list[Call]:
    """Every product that `step` executes, in order."""
    with Recorder() as recorder:
        step()
    return recorder.calls


def replay(calls: Sequence[Call]) -> Callable[[], None]:
    """A function that does these calls on random operands, which are made here and shared where alike.

    Large products go to the library that is the faster one on this processor, as milbench's own do.
    """
    pool: dict[Operand, Tensor] = {}

    def tensor(like: Operand) -> Tensor:
        if like not in pool:
            pool[like] = like.made()
        return pool[like]

    ready = [_by_library(call.function, *tree_map_only(Operand, tensor, (call.args, call.kwargs))) for call in calls]

    @torch.no_grad()
    def again() -> None:
        for work in ready:
            work()

    return again


def _by_library(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[], object]:
    """The call, or the same products of matrices by oneDNN where milbench takes that."""
    if function.overloadpacket not in {*ONE, *SEVERAL}:
        return partial(function, *args, **kwargs)
    left, right = args[-2:]
    sizes, n_products = (*left.shape[-2:], right.shape[-1]), left.shape[:-2].numel()

    def product() -> Tensor:
        if not products._goes_to_onednn(left, *sizes, n_products=n_products):
            return function(*args, **kwargs)  # type: ignore[no-any-return]
        return products.bmm(left, right) if left.ndim == 3 else products._by_onednn(left, right.T)

    return product
