"""Blocks of rows: where big bags on a CPU go from features to pooling some patches at a time.

A result [N, hidden] of a big bag does not fit into the cache. Each operation on it then reads and writes memory, and
each new result is made of fresh pages. So operations follow each other block by block, and write into memory that the
next block writes into again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import prefers_onednn
from milbench_baselines.layers.usual import is_usual

ROWS = 1024
"""Fewest rows of a block of a large bag. Products of so many run at full rate."""

NUMBERS = 3 * 2**19
"""Numbers that an operation makes of a block: 6 MB of float32. With two threads, shorter blocks leave them waiting for each other."""

FEW = 128
"""Patches up to which blocks gain nothing in training. Fewer than `activation_cost` measures at, so it sees blocks alone."""


def goes_in_blocks(x: Tensor, *dropouts: nn.Module, few: int = ROWS) -> bool:
    """Whether a bag [N, D] is worked on in blocks: on a CPU, in its own precision, and where it has enough patches.

    Elsewhere, autocast chooses dtypes operation by operation, a GPU has other costs, and a graph that is exported must
    not depend on the number of patches. In half precision, sums over blocks would be rounded after each. `torch.func`
    transforms one operation after the other: stacks of models, and gradients of gradients, which blocks do not have.
    The `dropouts` on the way must be milbench's own, whose masks come in pieces. `few` is what `FEW` is in training.
    """
    # first, because a small bag is computed in the time of a few questions
    if torch.compiler.is_compiling() or x.shape[0] <= (FEW if torch.is_grad_enabled() else few):
        return False
    if torch._C._are_functorch_transforms_active() or x.dtype not in (torch.float32, torch.float64):
        return False
    if not all(isinstance(dropout, Dropout) for dropout in dropouts):
        return False
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def is_relu(layer: object) -> bool:
    """Whether functions of whole layers may take a ReLU for this one, as the models here have it. Models that are made of them may not."""
    return type(layer) is nn.ReLU and is_usual(layer, nn.ReLU)


def blocks_of(n: int, *, width: int) -> list[slice]:
    """Slices of n rows for operations that make `width` numbers of a row: of equal length, except the last, which is no longer.

    A block of them has `NUMBERS` at most, or `ROWS` rows if that is more. Where products go to oneDNN, which takes `ROWS`
    rows at once, blocks have that many.
    """
    most = ROWS if prefers_onednn() else max(NUMBERS // width, ROWS)
    length = most if prefers_onednn() else _rounded_up(-(-n // -(-n // most)))
    return [slice(start, min(start + length, n)) for start in range(0, n, length)]


def _rounded_up(length: int) -> int:
    """Next multiple of 16: rows of a block start where a word of dropout's and a line of the cache do."""
    return -(-length // 16) * 16


Gradients = tuple[Tensor | None, ...]


def differentiable_once(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """The `backward` of a function in blocks, where a gradient of its gradients raises `RuntimeError`.

    Without this it would lack the parts that go through what the forward kept. torch's `once_differentiable` lets it pass
    where the features are reached on another way too.
    """

    @wraps(backward)
    def guarded(ctx: Any, *of_outputs: Tensor | None) -> Gradients:
        if not torch.is_grad_enabled():  # as long as nobody asks for `create_graph`
            return backward(ctx, *of_outputs)
        n = len(of_outputs)
        found: Gradients = _Once.apply(lambda *given: backward(ctx, *given[:n]), *of_outputs, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return found

    return guarded


def no_second_gradient(ctx: Any, *_: Tensor | None) -> Gradients:
    """The backward of gradients that are written out; raises `RuntimeError`."""
    raise RuntimeError("layers of this model have no gradient of a gradient: they compute their gradients themselves.")


class _Once(torch.autograd.Function):
    """What `compute` makes of tensors, which has no gradient."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[..., Gradients], *given: Tensor | None) -> Gradients:
        return compute(*given)

    backward = staticmethod(no_second_gradient)
