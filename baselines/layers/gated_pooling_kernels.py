"""Triton kernels of the gated-attention pooling in `gated_pooling`; the only file that imports triton.

A program is one block of patches of one expert. No two programs write the same number, and there are no atomics, so
results repeat to the bit. Names: n = patches of an expert, A = width of the attention, H = width of the rows. Arguments
before `n` are tensors; `gated_pooling` gives their shapes. BF16: products of bfloat16 numbers. WIDE is for triton's interpreter, which cannot multiply bfloat16
(3.7, 3.9: it takes their bits for whole numbers): products of bfloat16 numbers in float32 are the same, as they are exact.
Arguments have no annotations, because triton's compiler would look them up (its interpreter does not).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _tanh(x):
    """tanh(x) in float32. Near zero, (1 - e) / (1 + e) would lose digits; the series to x^9 has them there."""
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    y = x * x
    near = x * (1.0 + y * (-1.0 / 3.0 + y * (2.0 / 15.0 + y * (-17.0 / 315.0 + y * (62.0 / 2835.0)))))
    return tl.where(tl.abs(x) < 0.25, near, tl.where(x < 0.0, -far, far))


@triton.jit
def _rows(h, stride, rows, n, features, H: tl.constexpr):
    """Block [BN, BH] of the rows `h`; zero beyond patch n and feature H."""
    here = (rows[:, None] < n) & (features[None, :] < H)
    return tl.load(h + rows[:, None] * stride + features[None, :], mask=here, other=0.0)


@triton.jit
def _branches(
    h, stride, branches, biases, rows, n, columns,
    A: tl.constexpr, H: tl.constexpr, BN: tl.constexpr, BA: tl.constexpr, BH: tl.constexpr,
    PRODUCTS: tl.constexpr, BF16: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """tanh(V h + bV) and sigmoid(U h + bU) of some rows and columns, [BN, BA] float32."""
    v = tl.zeros((BN, BA), tl.float32)
    u = tl.zeros((BN, BA), tl.float32)
    for first in range(0, H, BH):
        features = first + tl.arange(0, BH)
        x = _rows(h, stride, rows, n, features, H)
        here = (columns[:, None] < A) & (features[None, :] < H)
        place = columns[:, None] * H + features[None, :]
        of_v = tl.load(branches + place, mask=here, other=0.0)
        of_u = tl.load(branches + A * H + place, mask=here, other=0.0)
        if BF16:
            x, of_v, of_u = x.to(tl.bfloat16), of_v.to(tl.bfloat16), of_u.to(tl.bfloat16)
        if WIDE:
            x, of_v, of_u = x.to(tl.float32), of_v.to(tl.float32), of_u.to(tl.float32)
        v = tl.dot(x, tl.trans(of_v), v, input_precision=PRODUCTS)
        u = tl.dot(x, tl.trans(of_u), u, input_precision=PRODUCTS)
    v += tl.load(biases + columns, mask=columns < A, other=0.0).to(tl.float32)[None, :]
    u += tl.load(biases + A + columns, mask=columns < A, other=0.0).to(tl.float32)[None, :]
    return _tanh(v), 1.0 / (1.0 + tl.exp(-u))


@triton.jit
def _factors(mask, rows, n, columns, A: tl.constexpr):
    """Block [BN, BA] of the dropout mask, float32."""
    here = (rows[:, None] < n) & (columns[None, :] < A)
    return tl.load(mask + rows[:, None] * A + columns[None, :], mask=here, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["n"])
def pool_blocks(
    h, branches, biases, score, score_bias, mask,
    scores, highest, sums, totals,
    n, stride_e, stride_n,
    A: tl.constexpr, H: tl.constexpr, BN: tl.constexpr, BA: tl.constexpr, BH: tl.constexpr,
    MASKED: tl.constexpr, PRODUCTS: tl.constexpr, BF16: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Scores, and of each block: the highest score, the sum of exp(score - highest), and the rows' sum in these weights."""
    block, expert = tl.program_id(0), tl.program_id(1).to(tl.int64)
    rows = (block * BN + tl.arange(0, BN)).to(tl.int64)
    h += expert * stride_e
    s = tl.zeros((BN,), tl.float32)
    for first in range(0, A, BA):
        columns = first + tl.arange(0, BA)
        tanh, gate = _branches(
            h, stride_n, branches + expert * 2 * A * H, biases + expert * 2 * A, rows, n, columns,
            A, H, BN, BA, BH, PRODUCTS, BF16, WIDE,
        )  # fmt: skip
        product = tanh * gate
        if MASKED:
            product *= _factors(mask + expert * n * A, rows, n, columns, A)
        w = tl.load(score + expert * A + columns, mask=columns < A, other=0.0).to(tl.float32)
        s += tl.sum(product * w[None, :], axis=1)
    s += tl.load(score_bias + expert).to(tl.float32)
    tl.store(scores + expert * n + rows, s, mask=rows < n)
    s = tl.where(rows < n, s, float("-inf"))
    top = tl.max(s, axis=0)
    weights = tl.exp(s - top)
    at = expert * tl.num_programs(0) + block
    tl.store(highest + at, top)
    tl.store(sums + at, tl.sum(weights, axis=0))
    for first in range(0, H, BH):
        features = first + tl.arange(0, BH)
        x = _rows(h, stride_n, rows, n, features, H).to(tl.float32)
        tl.store(totals + at * H + features, tl.sum(weights[:, None] * x, axis=0), mask=features < H)


@triton.jit(do_not_specialize=["n_blocks"])
def merge_blocks(
    highest, sums, totals, pooled, normaliser, n_blocks,
    H: tl.constexpr, BB: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """Pooled feature and log of the softmax's sum, from the blocks of `pool_blocks` in their order."""
    expert = tl.program_id(1).to(tl.int64)
    features = tl.program_id(0) * BH + tl.arange(0, BH)
    tops = tl.full((BB,), float("-inf"), tl.float32)
    for first in range(0, n_blocks, BB):
        blocks = first + tl.arange(0, BB)
        tops = tl.maximum(tops, tl.load(highest + expert * n_blocks + blocks, mask=blocks < n_blocks, other=float("-inf")))
    top = tl.max(tops, axis=0)
    total = tl.zeros((BH,), tl.float32)
    weights = tl.zeros((BB,), tl.float32)
    for first in range(0, n_blocks, BB):
        blocks = first + tl.arange(0, BB)
        at = expert * n_blocks + blocks
        shrink = tl.exp(tl.load(highest + at, mask=blocks < n_blocks, other=float("-inf")) - top)
        weights += shrink * tl.load(sums + at, mask=blocks < n_blocks, other=0.0)
        here = (blocks[:, None] < n_blocks) & (features[None, :] < H)
        total += tl.sum(shrink[:, None] * tl.load(totals + at[:, None] * H + features[None, :], mask=here, other=0.0), axis=0)
    weight = tl.sum(weights, axis=0)
    tl.store(pooled + expert * H + features, total / weight, mask=features < H)
    tl.store(normaliser + expert, top + tl.log(weight), mask=tl.program_id(0) == 0)


@triton.jit(do_not_specialize=["n"])
def back_through_blocks(
    h, branches, biases, score, mask,
    scores, normaliser, pooled, of_pooled, of_scores,
    of_h, of_branches, partial,
    n, stride_e, stride_n,
    A: tl.constexpr, H: tl.constexpr, BN: tl.constexpr, BA: tl.constexpr, BH: tl.constexpr,
    MASKED: tl.constexpr, SCORED: tl.constexpr, PRODUCTS: tl.constexpr, BF16: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The rows' gradient by their weights, that of V h and U h, and per block the sums over patches for biases and score."""
    block, expert = tl.program_id(0), tl.program_id(1).to(tl.int64)
    rows = (block * BN + tl.arange(0, BN)).to(tl.int64)
    h += expert * stride_e
    s = tl.load(scores + expert * n + rows, mask=rows < n, other=float("-inf"))
    attention = tl.exp(s - tl.load(normaliser + expert))  # [BN], 0 beyond patch n
    along = tl.zeros((BN,), tl.float32)
    for first in range(0, H, BH):
        features = first + tl.arange(0, BH)
        own = tl.load(of_pooled + expert * H + features, mask=features < H, other=0.0)
        mean = tl.load(pooled + expert * H + features, mask=features < H, other=0.0)
        x = _rows(h, stride_n, rows, n, features, H).to(tl.float32)
        along += tl.sum((x - mean[None, :]) * own[None, :], axis=1)  # (h_n - M) . dM
        here = (rows[:, None] < n) & (features[None, :] < H)
        place = of_h + (expert * n + rows[:, None]) * H + features[None, :]
        tl.store(place, (attention[:, None] * own[None, :]).to(of_h.dtype.element_ty), mask=here)
    of_score = attention * along
    if SCORED:
        of_score += tl.load(of_scores + expert * n + rows, mask=rows < n, other=0.0)
    partial += (expert * tl.num_programs(0) + block) * (3 * A + 1)
    tl.store(partial + 3 * A, tl.sum(of_score, axis=0))
    for first in range(0, A, BA):
        columns = first + tl.arange(0, BA)
        tanh, gate = _branches(
            h, stride_n, branches + expert * 2 * A * H, biases + expert * 2 * A, rows, n, columns,
            A, H, BN, BA, BH, PRODUCTS, BF16, WIDE,
        )  # fmt: skip
        w = tl.load(score + expert * A + columns, mask=columns < A, other=0.0).to(tl.float32)
        of_product = tl.broadcast_to(of_score[:, None], (BN, BA))
        if MASKED:
            of_product *= _factors(mask + expert * n * A, rows, n, columns, A)
        tl.store(partial + 2 * A + columns, tl.sum(of_product * tanh * gate, axis=0), mask=columns < A)
        of_product *= w[None, :]
        of_v = of_product * gate * (1.0 - tanh * tanh)
        of_u = of_product * tanh * gate * (1.0 - gate)
        tl.store(partial + columns, tl.sum(of_v, axis=0), mask=columns < A)
        tl.store(partial + A + columns, tl.sum(of_u, axis=0), mask=columns < A)
        here = (rows[:, None] < n) & (columns[None, :] < A)
        place = of_branches + (expert * n + rows[:, None]) * 2 * A + columns[None, :]
        tl.store(place, of_v.to(of_branches.dtype.element_ty), mask=here)
        tl.store(place + A, of_u.to(of_branches.dtype.element_ty), mask=here)
