"""Products of large matrices on a CPU, by the library that is faster on this processor, and a Linear layer made of them.

torch hands products of float32 numbers to Intel's MKL. On AMD's processors MKL uses instructions of 256 bits (AVX2), although they
may have those of 512 bits (AVX-512). oneDNN, which is in torch too, uses these. On AMD's Zen 5 it is twice as fast.

The choice follows from processor and sizes alone, so the same command gives the same digits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from milbench.machine.processor import is_amd

FEWEST_MULTIPLY_ADDS = 2_000_000
"""Cost of a product from which on starting oneDNN costs less than it saves."""

NARROWEST = 8
"""Fewest rows and columns of each matrix that oneDNN gets. Products with fewer take as long as reading their operands."""


class Linear(nn.Linear):
    """torch's Linear layer with the products of this module."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows [..., O] of rows [..., D]."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows [..., O] = x [..., D] weight [O, D]^T + bias [O], with gradients."""
    n = x.numel() // x.shape[-1] if x.numel() else 0
    if not _goes_to_onednn(x, n, *weight.shape) or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return nn.functional.linear(x, weight, bias)
    if torch._C._are_functorch_transforms_active():
        return nn.functional.linear(x, weight, bias)
    return _Linear.apply(x.reshape(n, -1), weight, bias).view(*x.shape[:-1], -1)  # type: ignore[no-any-return, no-untyped-call]


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """Rows [N, O] = x [N, D] weight [O, D]^T + bias [O], without gradients, in `out` if it is given."""
    if _goes_to_onednn(x, len(x), x.shape[1], len(weight)):
        rows = _by_onednn(x, weight, bias)
        return rows if out is None else out.copy_(rows)
    if bias is None:
        return torch.mm(x, weight.T, out=out)
    return torch.addmm(bias, x, weight.T, out=out)


def times(rows: Tensor, weight: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Rows [N, D] = rows [N, O] weight [O, D], without gradients, in `out` if it is given."""
    if _goes_to_onednn(rows, len(rows), *weight.shape):
        found = _by_onednn(rows, weight.T)
        return found if out is None else out.copy_(found)
    return torch.mm(rows, weight, out=out)


def add_times(total: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """`total` [N, D], after rows [N, O] weight [O, D] were added to it."""
    if _goes_to_onednn(rows, len(rows), *weight.shape):
        return total.add_(_by_onednn(rows, weight.T))
    return total.addmm_(rows, weight)


def by_transposed(rows: Tensor, weight: Tensor) -> Tensor:
    """Rows [N, O] = rows [N, D] weight [O, D]^T, without gradients, by torch's `@` where it is not oneDNN's."""
    if _goes_to_onednn(rows, len(rows), *weight.shape):
        return _by_onednn(rows, weight)
    return rows @ weight.mT


def outer(left: Tensor, right: Tensor) -> Tensor:
    """Left [N, O]^T right [N, D], without gradients."""
    if _goes_to_onednn(right, left.shape[1], len(left), right.shape[1]):
        return _by_onednn(left.T, right.T)
    return torch.mm(left.T, right)


def bmm(left: Tensor, right: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Products [G, n, m] of matrices [G, n, k] and [G, k, m], without gradients, in `out` if it is given."""
    if not _goes_to_onednn(left, *left.shape[1:], right.shape[2]):
        return torch.bmm(left, right, out=out)
    out = left.new_empty(len(left), left.shape[1], right.shape[2]) if out is None else out
    for of_one, one, other in zip(out, left, right, strict=True):
        of_one.copy_(_by_onednn(one, other.T))
    return out


def baddbmm(total: Tensor, left: Tensor, right: Tensor, *, alpha: float = 1.0, out: Tensor | None = None) -> Tensor:
    """`total` [G, n, m], or what expands to it, plus alpha times `bmm` of both, in `out` if it is given."""
    if _goes_to_onednn(left, *left.shape[1:], right.shape[2]):
        return torch.add(total, bmm(left, right), alpha=alpha, out=out)
    return torch.baddbmm(total, left, right, alpha=alpha, out=out)


def add_outer(total: Tensor, left: Tensor, right: Tensor, *, is_first: bool = False) -> Tensor:
    """`total` [O, D], after left [N, O]^T right [N, D] was added to it; `is_first`: it held anything before."""
    if _goes_to_onednn(right, left.shape[1], len(left), right.shape[1]):
        found = _by_onednn(left.T, right.T)
        return total.copy_(found) if is_first else total.add_(found)
    return total.addmm_(left.T, right, beta=0 if is_first else 1)


def _goes_to_onednn(like: Tensor, *sizes: int) -> bool:
    """Whether a product whose three `sizes` are these is oneDNN's."""
    if not prefers_onednn() or like.dtype != torch.float32 or like.device.type != "cpu":
        return False
    is_large = min(sizes) >= NARROWEST and sizes[0] * sizes[1] * sizes[2] >= FEWEST_MULTIPLY_ADDS
    return is_large and _get_current_dispatch_mode() is None  # who counts torch's products must see them


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows [N, O] = x [N, D] weight [O, D]^T + bias [O]. Both matrices may be views, transposed ones too."""
    if not weight.is_contiguous() and not weight.T.is_contiguous():  # a part of wider rows: oneDNN would go number by number
        weight = weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


@cache
def prefers_onednn() -> bool:
    """Whether oneDNN multiplies faster than MKL here: on AMD's processors with AVX-512."""
    has_onednn = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
    return has_onednn and torch.backends.cpu.get_cpu_capability() == "AVX512" and is_amd()


class _Linear(torch.autograd.Function):
    """`affine` of rows [N, D]. If gradients of its gradients are wanted, it computes them by torch's products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return affine(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        is_plain = torch.is_grad_enabled()
        return (
            None if not of_x else gradient @ weight if is_plain else times(gradient, weight),
            None if not of_weight else gradient.T @ x if is_plain else outer(gradient, x),
            gradient.sum(dim=0) if of_bias else None,
        )

