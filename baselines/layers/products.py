"""Products of large matrices on a CPU, by the library that is faster on this processor, and a Linear layer made of them.

torch hands products of float32 numbers to Intel's MKL. On AMD's processors MKL uses instructions of 256 bits (AVX2), although they
may have those of 512 bits (AVX-512). oneDNN, which is in torch too, uses these. On AMD's Zen 5 it is twice as fast.

The choice follows from processor and sizes alone, so the same command gives the same digits.

oneDNN writes code for each size that it meets, which takes about a millisecond and up to a megabyte that it does not give back. Bags
are of every size. So oneDNN gets matrices of few different sizes: many rows go in blocks, rows that were in the block before fill up the
last one, and zeros whatever else needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils._python_dispatch import _get_current_dispatch_mode

from milbench.machine.processor import is_amd

FEWEST_MULTIPLY_ADDS = 10_000_000
"""Cost of a product from which on starting oneDNN costs less than it saves. Several of one size, which go one by one, cost twice that."""

NARROWEST = 32
"""Fewest rows and columns of each matrix that oneDNN gets. With fewer, laying out the matrices takes as long as multiplying them."""

FEW_COLUMNS = 8
"""Columns up to which MKL computes a product sooner as that of rows."""

ROWS = 1024
"""Most rows of one product. Where products are oneDNN's, a block of patches has as many (`row_blocks`)."""

STEPS_PER_DOUBLING = 8
"""Sizes that oneDNN gets between a power of two and the next. Zeros then add less than an eighth to a size."""


class Linear(nn.Linear):
    """torch's Linear layer with the products of this module."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows [..., O] of rows [..., D]."""
        product = linear if prefers_onednn() else nn.functional.linear
        return product(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows [..., O] = x [..., D] weight [O, D]^T + bias [O], with gradients."""
    # most layers of small bags end here; a graph for any number of rows asks for no number
    if not prefers_onednn() or torch.compiler.is_compiling() or x.numel() * weight.shape[0] < FEWEST_MULTIPLY_ADDS:
        return nn.functional.linear(x, weight, bias)
    n = x.numel() // x.shape[-1]
    if not _goes_to_onednn(x, n, *weight.shape) or torch.is_autocast_enabled("cpu"):
        return nn.functional.linear(x, weight, bias)
    if torch._C._are_functorch_transforms_active() or torch._C._is_tracing():
        return nn.functional.linear(x, weight, bias)
    return _Linear.apply(x.reshape(n, -1), weight, bias).view(*x.shape[:-1], -1)  # type: ignore[no-any-return, no-untyped-call]


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """Rows [N, O] = x [N, D] weight [O, D]^T + bias [O], without gradients, in `out` if it is given."""
    if _goes_to_onednn(x, *x.shape, weight.shape[0]):
        return _by_onednn(x, weight, bias, out)
    if bias is None:
        return torch.mm(x, weight.T, out=out)
    return torch.addmm(bias, x, weight.T, out=out)


def affine_of_each(x: Tensor, weights: Tensor, biases: Tensor, *, out: Tensor) -> Tensor:
    """Rows [G, N, O] = x [N, D] weights [G, O, D]^T + biases [G, O], without gradients, in `out`. MKL does them sooner together."""
    if not _goes_to_onednn(x, x.shape[0], *weights.shape[1:]):
        return torch.baddbmm(biases[:, None], x.expand(weights.shape[0], *x.shape), weights.mT, out=out)
    for own, weight, bias in zip(out, weights, biases, strict=True):
        _by_onednn(x, weight, bias, own)
    return out


def times(rows: Tensor, weight: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Rows [N, D] = rows [N, O] weight [O, D], without gradients, in `out` if it is given."""
    if _goes_to_onednn(rows, rows.shape[0], *weight.shape):
        return _by_onednn(rows, weight.T, out=out)
    return torch.mm(rows, weight, out=out)


def add_times(total: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """`total` [N, D], after rows [N, O] weight [O, D] were added to it."""
    if _goes_to_onednn(rows, rows.shape[0], *weight.shape):
        return total.add_(_by_onednn(rows, weight.T))
    return total.addmm_(rows, weight)


def by_transposed(rows: Tensor, weight: Tensor) -> Tensor:
    """Rows [N, O] = rows [N, D] weight [O, D]^T, without gradients, by torch's `@` where it is not oneDNN's."""
    if _goes_to_onednn(rows, rows.shape[0], *weight.shape):
        return _by_onednn(rows, weight)
    return rows @ weight.mT


def tanh_of_affine(x: Tensor, weight: Tensor, bias: Tensor, *, out: Tensor) -> Tensor:
    """Hyperbolic tangents of what `affine` makes, in `out`. oneDNN takes it of numbers that it still has in registers."""
    if _goes_to_onednn(x, *x.shape, weight.shape[0]):
        return _by_onednn(x, weight, bias, out, then="tanh")
    return torch.addmm(bias, x, weight.T, out=out).tanh_()


def times_few(few: Tensor, rows: Tensor, *, out: Tensor) -> Tensor:
    """Few [M, D] rows [N, D]^T, [M, N] in `out`, without gradients. The library is several times slower with so few columns than with rows."""
    if len(few) <= FEW_COLUMNS:
        return torch.mm(few, rows.T, out=out)
    return out.copy_((rows @ few.T).T)


def outer(left: Tensor, right: Tensor) -> Tensor:
    """Left [N, O]^T right [N, D], without gradients."""
    if _goes_to_onednn(right, left.shape[1], left.shape[0], right.shape[1]):
        return _outer_by_onednn(left, right)
    return torch.mm(left.T, right)


def bmm(left: Tensor, right: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Products [G, n, m] of matrices [G, n, k] and [G, k, m], without gradients, in `out` if it is given."""
    if not _goes_to_onednn(left, *left.shape[1:], right.shape[2], n_products=len(left)):
        return torch.bmm(left, right, out=out)
    out = left.new_empty(len(left), left.shape[1], right.shape[2]) if out is None else out
    for of_one, one, other in zip(out, left, right, strict=True):
        _by_onednn(one, other.T, out=of_one)
    return out


def baddbmm(total: Tensor, left: Tensor, right: Tensor, *, alpha: float = 1.0, out: Tensor | None = None) -> Tensor:
    """`total` [G, n, m], or what expands to it, plus alpha times `bmm` of both, in `out` if it is given."""
    if _goes_to_onednn(left, *left.shape[1:], right.shape[2], n_products=len(left)):
        return torch.add(total, bmm(left, right), alpha=alpha, out=out)
    return torch.baddbmm(total, left, right, alpha=alpha, out=out)


def add_outer(total: Tensor, left: Tensor, right: Tensor, *, is_first: bool = False) -> Tensor:
    """`total` [O, D], after left [N, O]^T right [N, D] was added to it; `is_first`: it held anything before."""
    if _goes_to_onednn(right, left.shape[1], left.shape[0], right.shape[1]):
        found = _outer_by_onednn(left, right)
        return total.copy_(found) if is_first else total.add_(found)
    return total.addmm_(left.T, right, beta=0 if is_first else 1)


def add_outer_of_each(totals: Tensor, left: Tensor, right: Tensor, *, is_first: bool = False) -> Tensor:
    """`totals` [G, O, D], after left [G, N, O]^T right [N, D] was added to them; `is_first`: they held anything before."""
    if not _goes_to_onednn(right, left.shape[2], *right.shape):
        return totals.baddbmm_(left.mT, right.expand(left.shape[0], *right.shape), beta=0 if is_first else 1)
    for total, own in zip(totals, left, strict=True):
        add_outer(total, own, right, is_first=is_first)
    return totals


def sum_of_rows(rows: Tensor) -> Tensor:
    """Sum [D] of rows [N, D] on a CPU. torch's own `sum` takes twice as long."""
    return torch.mv(rows.T, rows.new_ones(rows.shape[0]))


def _goes_to_onednn(like: Tensor, *sizes: int, n_products: int = 1) -> bool:
    """Whether products whose three `sizes` are these are oneDNN's."""
    if not prefers_onednn():
        return False
    fewest = FEWEST_MULTIPLY_ADDS * min(n_products, 2)
    if n_products * sizes[0] * sizes[1] * sizes[2] < fewest or min(sizes) < NARROWEST:  # most end here
        return False
    is_plain = like.dtype == torch.float32 and like.device.type == "cpu"
    return is_plain and _get_current_dispatch_mode() is None  # who counts torch's products must see them


def _by_onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, out: Tensor | None = None, *, then: str = "none"
) -> Tensor:
    """Rows [N, O] = x [N, D] weight [O, D]^T + bias [O], then "tanh" or "none". All matrices may be views, transposed ones too."""
    if x.shape[1] != weight.shape[1] or x.dtype != weight.dtype:
        return nn.functional.linear(x, weight, bias)  # torch says what does not fit; zeros would hide it
    n, o, d = x.shape[0], weight.shape[0], _filled_up(x.shape[1])
    weight = _with_zeros(weight, _filled_up(o), d)
    bias = bias if bias is None or weight.shape[0] == o else pad(bias, (0, weight.shape[0] - o))
    if out is None and n <= ROWS:
        found = _product(_with_zeros(x, _filled_up(n), d), weight, bias, then)
        return found if found.shape == (n, o) else found[:n, :o].clone()  # no view: a layer behind it may change it in place
    out = x.new_empty(n, o) if out is None else out
    for at, _ in _at_once(n):
        rows = x[at]
        found = _product(_with_zeros(rows, _filled_up(rows.shape[0]), d), weight, bias, then)
        out[at] = found if found.shape[1] == o and found.shape[0] == rows.shape[0] else found[: rows.shape[0], :o]
    return out


def _outer_by_onednn(left: Tensor, right: Tensor) -> Tensor:
    """Left [N, O]^T right [N, D], in new memory. O and D are widths of layers, which are few: no zeros fill them up."""
    products = (_outer_product(left[at], right[at], n_seen) for at, n_seen in _at_once(left.shape[0]))
    total = next(products)
    for each in products:
        total += each
    return total


def _outer_product(left: Tensor, right: Tensor, n_seen: int) -> Tensor:
    """Left^T right of rows, without the first `n_seen` of them."""
    if n_seen:
        columns = left.T.clone(memory_format=torch.contiguous_format)
        columns[:, :n_seen] = 0
        return _product(columns, right.T)
    n = _filled_up(left.shape[0])
    return _product(_with_zeros(left, n, left.shape[1]).T, _with_zeros(right, n, right.shape[1]).T)


def _at_once(n: int) -> Iterator[tuple[slice, int]]:
    """Slices of n rows that make one product each, and how many rows at the start of each the one before had too.

    Rows before the last ones fill up their product: zeros behind them would need a copy of all.
    """
    step = _step_at(n)
    first = ROWS if n >= ROWS else n // step * step or n
    yield slice(0, first), 0
    for start in range(first, n, ROWS):
        stop = min(start + ROWS, n)
        whole = stop - _filled_up(stop - start)
        yield slice(whole, stop), start - whole


def _filled_up(size: int) -> int:
    """The next size that oneDNN gets: a multiple of 8, and of a `STEPS_PER_DOUBLING`th of the power of two below it."""
    step = _step_at(size)
    return -(-size // step) * step


def _step_at(size: int) -> int:
    """Distance of the sizes that oneDNN gets near this one."""
    return max(8, (1 << (size - 1).bit_length()) // (2 * STEPS_PER_DOUBLING))


def _with_zeros(matrix: Tensor, n_rows: int, n_columns: int) -> Tensor:
    """The `matrix` with zeros below and behind it. If its columns lie in memory one after the other, they still do."""
    n, d = matrix.shape
    if (n, d) == (n_rows, n_columns):
        return matrix
    if matrix.stride(0) == 1:
        return _with_zeros(matrix.T, n_columns, n_rows).T
    filled = matrix.new_empty(n_rows, n_columns)
    filled[n:], filled[:n, d:] = 0, 0
    filled[:n, :d] = matrix
    return filled


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """What torch hands to oneDNN."""
    if not weight.is_contiguous() and not weight.T.is_contiguous():  # a part of wider rows: oneDNN would go number by number
        weight = weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "")  # type: ignore[no-any-return]


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

