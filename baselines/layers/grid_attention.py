"""MP-AMIL after its embedding, for large bags: some rows of the grid at a time, from the embedded patches to the slide feature.

The formulas are those of `MPAMIL.forward`. The backward gets the embedded patches and the attention's branches, and computes
the rest again: convolutions and normalisation take a tenth of a step's time, and memory for all their results would be
most of its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import hardswish, layer_norm

from milbench_baselines.layers.attention_pooling import PoolGradients, RunningPool, Weights, score_block
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.grid_taps import (
    add_gradients_of_taps,
    around,
    convolved,
    kernel_of,
    row_blocks,
    taps_of,
)
from milbench_baselines.layers.row_blocks import differentiable_once

RIM = 3
"""Rows of zeros around a grid: half of the largest kernel, 7 x 7."""


class Parts(NamedTuple):
    """Parts of the module that are not tensors.

    Attributes
    ----------
    dropout : of the attention.
    eps : of the normalisation.
    mask_duplicates, residual, activate_identity : as in `MPAMIL`.
    """

    dropout: Dropout
    eps: float
    mask_duplicates: bool
    residual: bool
    activate_identity: bool


class Parameters(NamedTuple):
    """Weights, those of parts that the module leaves out None: depthwise kernels [C, 1, s, s], pointwise [C, C, 1, 1]."""

    position: Tensor | None
    position_bias: Tensor | None
    norm: Tensor | None
    norm_bias: Tensor | None
    kernel3: Tensor
    kernel5: Tensor
    kernel7: Tensor
    mix3: Tensor
    mix5: Tensor
    mix7: Tensor
    tanh: Tensor
    tanh_bias: Tensor
    sigmoid: Tensor
    sigmoid_bias: Tensor
    score: Tensor
    score_bias: Tensor

    @property
    def attention(self) -> Weights:
        return Weights(*self[10:])


def pooled_grid(parts: Parts, h: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Slide feature [hidden] and raw scores [k*k], or [N] where copies are masked, of embedded patches `h` [N, hidden]."""
    slide, scores, *_ = _InBlocks.apply(parts, torch.is_grad_enabled(), h, *parameters)  # type: ignore[no-untyped-call]
    return slide, scores


class _Grid:
    """The grid of one bag in one pass: what forward and backward both compute.

    Attributes
    ----------
    side : k.
    n_scored : cells whose attention counts.
    blocks : slices of the grid's rows.
    placed : [k, k, hidden], embedded cells with their position encoding.
    u : [k + 6, k + 6, hidden], the same cells normalised, with a rim of zeros.
    """

    def __init__(self, parts: Parts, h: Tensor, p: Parameters) -> None:
        self.parts, self.h, self.p = parts, h, p
        n, self.width = h.shape
        self.side = isqrt(n - 1) + 1
        self.n_cells = self.side**2
        self.n_scored = n if parts.mask_duplicates else self.n_cells
        self.blocks = list(row_blocks(self.side, self.width))
        quarter = self.width // 4
        self.branches = [slice(i * quarter, (i + 1) * quarter) for i in (1, 2, 3)]
        self.taps = [taps_of(kernel) for kernel in (p.kernel3, p.kernel5, p.kernel7)]
        self.mixes = [mix.flatten(1) for mix in (p.mix3, p.mix5, p.mix7)]
        self.position = None if p.position is None else taps_of(p.position)
        self.placed, self.u = self._placed(), self.with_rim(RIM)
        self._normalise()

    def with_rim(self, rim: int) -> Tensor:
        """Grid [k + 2 rim, k + 2 rim, hidden] whose rim is zero and whose inside holds anything."""
        grid = self.h.new_empty(self.side + 2 * rim, self.side + 2 * rim, self.width)
        grid[:rim] = 0
        grid[-rim:] = 0
        grid[:, :rim] = 0
        grid[:, -rim:] = 0
        return grid

    def inside(self, grid: Tensor, rows: slice, rim: int) -> Tensor:
        """Cells [R, k, C] of some rows of a grid with a rim."""
        return grid[rim + rows.start : rim + rows.stop, rim : rim + self.side]

    def cells(self, start: int, stop: int) -> Tensor:
        """Embedded cells [stop - start, hidden]; behind the N patches stand copies of the first ones."""
        n = len(self.h)
        if stop <= n:
            return self.h[start:stop]
        copies = self.h[max(0, start - n) : stop - n]
        return torch.cat([self.h[start:n], copies]) if start < n else copies

    def embedded(self, rows: slice) -> Tensor:
        """Embedded cells [R, k, hidden] of some rows of the grid."""
        return self.cells(rows.start * self.side, rows.stop * self.side).reshape(-1, self.side, self.width)

    def window(self, rows: slice) -> Tensor:
        """Embedded cells [R + 2, k + 2, hidden] around some rows, zero outside of the grid."""
        first, last = max(rows.start - 1, 0), min(rows.stop + 1, self.side)
        window = self.h.new_empty(rows.stop - rows.start + 2, self.side + 2, self.width)
        at = first - (rows.start - 1)
        window[:at], window[at + last - first :], window[:, 0], window[:, -1] = 0, 0, 0, 0
        window[at : at + last - first, 1:-1] = self.embedded(slice(first, last))
        return window

    def _placed(self) -> Tensor:
        if self.position is None or self.p.position_bias is None:
            return self.embedded(slice(0, self.side))
        placed = self.h.new_empty(self.side, self.side, self.width)
        for rows in self.blocks:
            window = self.window(rows)
            convolved(window, self.position, placed[rows]).add_(window[1:-1, 1:-1]).add_(self.p.position_bias)
        return placed

    def _normalise(self) -> None:
        for rows in self.blocks:
            cells = self.placed[rows]
            if self.p.norm is not None:
                cells = layer_norm(cells, (self.width,), self.p.norm, self.p.norm_bias, self.parts.eps)
            self.inside(self.u, rows, RIM).copy_(cells)

    def branch_convolved(self, rows: slice) -> list[Tensor]:
        """Cells [R, k, hidden/4] of some rows after the depthwise convolution of each branch."""
        u = self.inside(self.u, rows, RIM)
        return [
            convolved(around(self.u[..., own], rows, isqrt(len(taps)), RIM), taps, torch.empty_like(u[..., own]))
            for own, taps in zip(self.branches, self.taps, strict=True)
        ]

    def before_activation(self, rows: slice, convolutions: Sequence[Tensor]) -> Tensor:
        """Cells [R, k, hidden] of some rows: the first quarter as it is, the others through their pointwise convolution."""
        before = torch.empty_like(self.placed[rows])
        first = self.branches[0].start
        before[..., :first] = self.inside(self.u, rows, RIM)[..., :first]
        for own, c, mix in zip(self.branches, convolutions, self.mixes, strict=True):
            torch.mm(c.flatten(0, 1), mix.T, out=before.flatten(0, 1)[:, own])
        return before

    def aggregated(self, rows: slice, before: Tensor) -> Tensor:
        """Cells [R, k, hidden] of some rows that the attention pools."""
        if self.parts.activate_identity:
            out = hardswish(before)
        else:
            first = self.branches[0].start
            out = torch.cat([before[..., :first], hardswish(before[..., first:])], dim=2)
        return out.add_(self.placed[rows]) if self.parts.residual else out

    def scored(self, rows: slice) -> slice:
        """Places of the cells of some rows whose attention counts."""
        return slice(min(rows.start * self.side, self.n_scored), min(rows.stop * self.side, self.n_scored))


class _InBlocks(torch.autograd.Function):
    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # torch looks at each named argument at every call
        parts, keeps, h, *parameters = inputs
        p = Parameters(*parameters)
        grid, weights = _Grid(parts, h, p), p.attention
        shape = grid.n_scored, len(weights.tanh)
        tanh, gate = h.new_empty(2, shape[0] if keeps else grid.blocks[0].stop * grid.side, shape[1])
        scores, pool = h.new_empty(grid.n_scored), RunningPool(grid.width, h)
        lanes = parts.dropout.lanes(shape) if parts.dropout.draws else None
        for rows in grid.blocks:
            at = grid.scored(rows)
            if at.start == at.stop:
                break
            before = grid.before_activation(rows, grid.branch_convolved(rows))
            r = grid.aggregated(rows, before).flatten(0, 1)[: at.stop - at.start]
            mask = None if lanes is None else parts.dropout.of_lanes(lanes[at], h)
            place = at if keeps else slice(0, len(r))
            scores[at] = score_block(r, weights, mask, tanh[place], gate[place])
            pool.add(scores[at], r)
        return pool.pooled(), scores, tanh, gate

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.parts, _, h, *parameters = inputs
        ctx.factor = ctx.parts.dropout.factor
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)  # they would be as large as all outputs
        ctx.save_for_backward(h, *parameters, *output)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_slide: Tensor | None, of_scores: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        h, *parameters, slide, scores, tanh, gate = ctx.saved_tensors
        p = Parameters(*parameters)
        grid = _Grid(ctx.parts, h, p)
        pool = PoolGradients(p.attention, ctx.factor, slide, scores, of_slide, of_scores)
        found = _Gradients(grid, pool, tanh, gate)
        for rows in grid.blocks:
            found.before_the_mix(rows)
        for rows in grid.blocks:
            found.before_the_norm(rows)
        return None, None, found.of_embedded(), *found.of_parameters()


class _Gradients:
    """The backward in three rounds over the grid's rows: a convolution's backward reads the rows next to its own.

    Attributes
    ----------
    of_r : [k + 2, k + 2, hidden], gradient of what the attention pools, then of the placed cells.
    of_u : [k + 6, k + 6, hidden], gradient before the mix: of the first quarter of `u`, and of the branches' convolutions.
    """

    def __init__(self, grid: _Grid, pool: PoolGradients, tanh: Tensor, gate: Tensor) -> None:
        self.grid, self.pool, self.tanh, self.gate = grid, pool, tanh, gate
        self.of_r, self.of_u = grid.with_rim(1), grid.with_rim(RIM)
        self.of_taps, self.of_mixes = [torch.zeros_like(t) for t in grid.taps], [torch.zeros_like(m) for m in grid.mixes]
        self.of_position = None if grid.position is None else torch.zeros_like(grid.position)
        width = grid.h.new_zeros(grid.width)
        self.of_position_bias, self.of_norm, self.of_norm_bias = width, width.clone(), width.clone()

    def before_the_mix(self, rows: slice) -> None:
        """First round: from the slide feature and the scores through attention, activation and pointwise convolutions."""
        grid, at = self.grid, self.grid.scored(rows)
        convolutions = grid.branch_convolved(rows)
        before = grid.before_activation(rows, convolutions)
        r = grid.aggregated(rows, before).flatten(0, 1)
        n = at.stop - at.start
        of_r = self.pool.of_rows(at, r[:n], self.tanh[at], self.gate[at])
        if n < len(r):  # copies that are not pooled
            of_r = torch.cat([of_r, of_r.new_zeros(len(r) - n, grid.width)])
        of_r = of_r.reshape(before.shape)
        grid.inside(self.of_r, rows, 1).copy_(of_r)
        of_before = torch.ops.aten.hardswish_backward(of_r, before)
        first = grid.branches[0].start
        if not grid.parts.activate_identity:
            of_before[..., :first] = of_r[..., :first]
        of_u = grid.inside(self.of_u, rows, RIM)
        of_u[..., :first] = of_before[..., :first]
        for own, mix, c, of_mix in zip(grid.branches, grid.mixes, convolutions, self.of_mixes, strict=True):
            of_mixed = of_before[..., own].flatten(0, 1)
            of_mix.addmm_(of_mixed.T, c.flatten(0, 1))
            of_u[..., own] = (of_mixed @ mix).reshape(c.shape)

    def before_the_norm(self, rows: slice) -> None:
        """Second round: through the branches' convolutions and the normalisation."""
        grid = self.grid
        own_rows = grid.inside(self.of_u, rows, RIM)
        of_u = torch.empty_like(own_rows)
        first = grid.branches[0].start
        of_u[..., :first] = own_rows[..., :first]
        for own, taps, of_taps in zip(grid.branches, grid.taps, self.of_taps, strict=True):
            size, out = isqrt(len(taps)), torch.empty_like(own_rows[..., own])
            add_gradients_of_taps(of_taps, around(grid.u[..., own], rows, size, RIM), own_rows[..., own], out)
            of_u[..., own] = convolved(around(self.of_u[..., own], rows, size, RIM), taps.flip(0), out)
        if grid.p.norm is not None and grid.p.norm_bias is not None:
            of_u = self._through_norm(grid.placed[rows], of_u)
        of_r = grid.inside(self.of_r, rows, 1)
        of_r.copy_(of_r + of_u if grid.parts.residual else of_u)

    def _through_norm(self, placed: Tensor, of_u: Tensor) -> Tensor:
        p, shape = self.grid.p, (self.grid.width,)
        _, mean, scale = torch.native_layer_norm(placed, shape, p.norm, p.norm_bias, self.grid.parts.eps)
        of_placed, of_norm, of_bias = torch.ops.aten.native_layer_norm_backward(
            of_u, placed, shape, mean, scale, p.norm, p.norm_bias, [True, True, True]
        )
        self.of_norm += of_norm
        self.of_norm_bias += of_bias
        return of_placed  # type: ignore[no-any-return]

    def of_embedded(self) -> Tensor:
        """Third round: gradient [N, hidden] of the embedded patches, through the position encoding. It takes `u`'s memory."""
        grid, n = self.grid, len(self.grid.h)
        of_cells = grid.u.flatten()[: grid.n_cells * grid.width].reshape(grid.side, grid.side, grid.width)
        for rows in grid.blocks:
            own = grid.inside(self.of_r, rows, 1)
            if grid.position is None or self.of_position is None:
                of_cells[rows] = own
                continue
            out = of_cells[rows]
            add_gradients_of_taps(self.of_position, grid.window(rows), own, out)
            self.of_position_bias += own.sum(dim=(0, 1))
            convolved(around(self.of_r, rows, 3, 1), grid.position.flip(0), out).add_(own)
        of_patches = of_cells.flatten(0, 1)
        of_patches[: grid.n_cells - n] += of_patches[n:]  # the copies are the first patches
        return of_patches[:n]

    def of_parameters(self) -> tuple[Tensor | None, ...]:
        """Gradients of `Parameters`, in order."""
        p = self.grid.p
        position = None if self.of_position is None or p.position is None else kernel_of(self.of_position, p.position)
        kernels = [kernel_of(*each) for each in zip(self.of_taps, (p.kernel3, p.kernel5, p.kernel7), strict=True)]
        mixes = [of_mix.reshape(mix.shape) for of_mix, mix in zip(self.of_mixes, (p.mix3, p.mix5, p.mix7), strict=True)]
        return (
            position, self.of_position_bias if position is not None else None,
            self.of_norm if p.norm is not None else None, self.of_norm_bias if p.norm is not None else None,
            *kernels, *mixes, *self.pool.of_weights,
        )  # fmt: skip
