"""Pooling by gated attention: plain, or on a GPU fused into a few kernels (docs/speed.md, "Fused kernels").

s_n = w . (tanh(V h_n + bV) * sigmoid(U h_n + bU) * mask_n) + b;  M = sum_n softmax_n(s) h_n
(Ilse et al., ICML 2018, eq. 9 and 7), of E attentions that each have their own rows.

Fused, a pooling keeps its scores, M and the mask for its backward; the branches are computed again there. Dropout draws
the numbers that it draws in the plain form, so results agree up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from milbench.kernels import has_triton, wants_fused_kernels
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.precision import dtype_of_products, without_autocast
from milbench_baselines.layers.row_blocks import differentiable_once
from milbench_baselines.layers.side_by_side import of_each

ROWS, COLUMNS, FEATURES, WARPS = 64, 64, 32, 8
"""Of a program: patches, most columns of a branch and most features of a row that a product takes at once, and its warps.
Compiled for sm_80 and sm_90, at most 24 bytes of a thread's registers go to memory. No GPU has timed other values."""

MERGED = 64
"""Blocks that are merged at once."""

SMALLEST = 16
"""Of a block: triton's products need it."""

DTYPES = (torch.float32, torch.bfloat16)
"""Of rows, and of what is multiplied."""


def gated_pooling(
    attentions: Sequence[GatedAttention], h: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Pooled rows [E, H] and scores [E, N] of E attentions on rows `h` [E, N, H], each on its own.

    A `mask` [E, N, width] takes the place of one that dropout would draw.
    """
    if mask is None and goes_fused(h, *(each.dropout for each in attentions)):
        return fused_pooling(attentions, h)
    scores = of_each(attentions, h) if mask is None else GatedAttention.of_all(attentions, h, mask)  # [E, N]  eq. 9
    return (scores.softmax(dim=1)[:, None] @ h).squeeze(1), scores        # [E, H]  eq. 7


def goes_fused(h: Tensor, *dropouts: nn.Module) -> bool:
    """Whether rows are pooled by the fused kernels: switched on, on a GPU, triton there, dtype one of theirs.

    Inside `torch.func` (a stack of models) kernels see no tensors that they could read. The `dropouts` on the way must be
    milbench's own, whose masks can be had before the product.
    """
    return (
        wants_fused_kernels() and h.is_cuda and has_triton()
        and not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()
        and all(isinstance(dropout, Dropout) for dropout in dropouts) and h.dtype in DTYPES and dtype_of_products(h) in DTYPES
    )  # fmt: skip


def fused_pooling(attentions: Sequence[GatedAttention], h: Tensor) -> tuple[Tensor, Tensor]:
    """`gated_pooling` by the fused kernels. Both results are float32, also of bfloat16 rows and under autocast."""
    kind = dtype_of_products(h)
    pairs = [layer for each in attentions for layer in (each.tanh_branch, each.sigmoid_branch)]
    width, dropout = len(pairs[0].weight), attentions[0].dropout
    mask = dropout.mask((len(h), h.shape[1], width), like=h.new_empty(0, dtype=kind)) if dropout.draws else None
    weights = Weights(
        torch.stack([layer.weight for layer in pairs]).reshape(len(h), 2, width, -1),
        torch.stack([layer.bias for layer in pairs]).reshape(len(h), 2, width),
        torch.cat([each.score.weight for each in attentions]),
        torch.cat([each.score.bias for each in attentions]),
    )
    return _Fused.apply(kind, h, mask, *weights)  # type: ignore[no-any-return, no-untyped-call]


class Weights(NamedTuple):
    """Weights of E gated attentions: V and U [E, 2, A, H], bV and bU [E, 2, A], w [E, A], b [E]."""

    branches: Tensor
    biases: Tensor
    score: Tensor
    score_bias: Tensor


class _Fused(torch.autograd.Function):
    """Pooled rows [E, H] and scores [E, N]."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        kind, h, mask, *weights = inputs
        h = _with_whole_rows(h)
        (e, n, width), of, sizes = h.shape, Weights(*weights), _sizes(h, weights[0])
        ctx.kind, ctx.arithmetic = kind, _arithmetic(kind)  # of TF32, a backward does as its forward did
        n_blocks = _blocks_of(n, ROWS)
        scores, pooled, normaliser = (h.new_empty(shape, dtype=torch.float32) for shape in ((e, n), (e, width), (e,)))
        highest, sums = scores.new_empty(2, e, n_blocks)
        totals = scores.new_empty(e, n_blocks, width)
        with torch.cuda.device_of(h):  # type: ignore[no-untyped-call]  # triton launches on the current device
            _kernels().pool_blocks[n_blocks, e](
                h, *of, h if mask is None else mask, scores, highest, sums, totals, n, *h.stride()[:2],
                **sizes, MASKED=mask is not None, **ctx.arithmetic,
            )  # fmt: skip
            _kernels().merge_blocks[_blocks_of(width, sizes["BH"]), e](
                highest, sums, totals, pooled, normaliser, n_blocks, H=width, BB=MERGED, BH=sizes["BH"]
            )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(h, mask, *weights, pooled, scores, normaliser)
        return pooled, scores

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_pooled: Tensor | None, of_scores: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        h, mask, *weights, pooled, scores, normaliser = ctx.saved_tensors
        (e, n, _), of, sizes = h.shape, Weights(*weights), _sizes(h, weights[0])
        of_pooled = torch.zeros_like(pooled) if of_pooled is None else of_pooled.contiguous()
        a, n_blocks = sizes["A"], _blocks_of(n, ROWS)
        of_h, of_branches = h.new_empty(h.shape), h.new_empty(e, n, 2 * a, dtype=ctx.kind)
        partial = pooled.new_empty(e, n_blocks, 3 * a + 1)
        with torch.cuda.device_of(h):  # type: ignore[no-untyped-call]
            _kernels().back_through_blocks[n_blocks, e](
                h, *of[:3], h if mask is None else mask, scores, normaliser, pooled, of_pooled,
                scores if of_scores is None else of_scores.contiguous(), of_h, of_branches, partial, n, *h.stride()[:2],
                **sizes, MASKED=mask is not None, SCORED=of_scores is not None, **ctx.arithmetic,
            )  # fmt: skip
        with without_autocast(h.device):
            _add_product(of_h, of_branches, of.branches.flatten(1, 2).to(ctx.kind))
            of_weights = torch.bmm(of_branches.mT, h.to(ctx.kind)).reshape(of.branches.shape)  # `@` would copy h
        biases, score, score_bias = partial.sum(dim=1).split([2 * a, a, 1], dim=1)
        found = Weights(of_weights, biases.reshape(of.biases.shape), score, score_bias.squeeze(1))
        return None, of_h, None, *(each.to(weight.dtype) for each, weight in zip(found, of, strict=True))


def _sizes(h: Tensor, branches: Tensor) -> dict[str, int]:
    """Sizes that kernels are compiled for: A, H, the program's block, its warps."""
    width, a = h.shape[2], branches.shape[2]
    block = {"BN": ROWS, "BA": _power_of_two(a, most=COLUMNS), "BH": _power_of_two(width, most=FEATURES)}
    return {"A": a, "H": width, **block, "num_warps": WARPS}


def _blocks_of(n: int, size: int) -> int:
    """Blocks of this size that hold n."""
    return -(-n // size)


def _power_of_two(n: int, *, most: int) -> int:
    """Smallest power of two that holds `n`, from `SMALLEST` to `most`."""
    return min(max(1 << (n - 1).bit_length(), SMALLEST), most)


def _with_whole_rows(h: Tensor) -> Tensor:
    """The same rows, the features of each side by side in memory."""
    return h if h.stride(2) == 1 else h.contiguous()


def _add_product(to: Tensor, left: Tensor, right: Tensor) -> None:
    """Add products [E, N, H] to `to`, in one operation if all are of one dtype."""
    if to.dtype == left.dtype:
        to.baddbmm_(left, right)
    else:
        to.add_(torch.bmm(left, right))


def _arithmetic(kind: torch.dtype) -> dict[str, Any]:
    """How products are rounded here, in the kernels' words. TF32 is used where torch may use it."""
    products = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    return {"PRODUCTS": products, "BF16": kind == torch.bfloat16, "WIDE": _is_interpreted()}


def _is_interpreted() -> bool:
    """Whether triton's interpreter runs the kernels, for tests on a CPU."""
    return not hasattr(_kernels().pool_blocks, "cache_key")


@cache
def _kernels() -> ModuleType:
    """The compiled kernels. triton is imported by the first pooling that uses them."""
    from milbench_baselines.layers import gated_pooling_kernels

    return gated_pooling_kernels


