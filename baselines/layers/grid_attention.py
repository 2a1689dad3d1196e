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

from milbench_baselines.layers.attention_pooling import Branches, PoolGradients, RunningPool, Weights, gates_of
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.grid_convolution import add_gradient_of_kernel, convolved
from milbench_baselines.layers.grid_taps import row_blocks
from milbench_baselines.layers.products import add_outer, affine, times
from milbench_baselines.layers.row_blocks import differentiable_once

RIMS = (0, 1, 2, 3)
"""Rows of zeros around the quarters of a grid: what the kernels of their branches reach, of which the first has none."""


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
    def kernels(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.kernel3, self.kernel5, self.kernel7

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
    quarters : slices of the channels, one per branch.
    placed : [k, k, hidden], embedded cells with their position encoding.
    u : the same cells normalised, a quarter each, [k + 2 rim, k + 2 rim, hidden/4] with the rims of `RIMS`.
    """

    def __init__(self, parts: Parts, h: Tensor, p: Parameters) -> None:
        self.parts, self.h, self.p = parts, h, p
        n, self.width = h.shape
        self.side = isqrt(n - 1) + 1
        self.n_cells = self.side**2
        self.n_scored = n if parts.mask_duplicates else self.n_cells
        self.blocks = list(row_blocks(self.side, self.width))
        quarter = self.width // len(RIMS)
        self.quarters = [slice(i * quarter, (i + 1) * quarter) for i in range(len(RIMS))]
        self.mixes = [mix.flatten(1) for mix in (p.mix3, p.mix5, p.mix7)]
        self.placed, self.u = self._placed(), self.quarters_with_rims()
        self._normalise()

    def with_rim(self, rim: int, channels: int) -> Tensor:
        """Grid [k + 2 rim, k + 2 rim, C] whose rim is zero and whose inside holds anything."""
        grid = self.h.new_empty(self.side + 2 * rim, self.side + 2 * rim, channels)
        if rim:
            grid[:rim], grid[-rim:], grid[:, :rim], grid[:, -rim:] = 0, 0, 0, 0
        return grid

    def quarters_with_rims(self) -> list[Tensor]:
        """Grids [k + 2 rim, k + 2 rim, hidden/4], one per branch, each with the rim that its kernel reads."""
        return [self.with_rim(rim, self.width // len(RIMS)) for rim in RIMS]

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
        if self.p.position is None:
            return self.embedded(slice(0, self.side))
        placed = self.h.new_empty(self.side, self.side, self.width)
        for rows in self.blocks:
            window = self.window(rows)
            torch.add(convolved(window, self.p.position, self.p.position_bias), window[1:-1, 1:-1], out=placed[rows])
        return placed

    def _normalise(self) -> None:
        for rows in self.blocks:
            cells = self.placed[rows]
            if self.p.norm is not None:
                cells = layer_norm(cells, (self.width,), self.p.norm, self.p.norm_bias, self.parts.eps)
            for grid, rim, own in zip(self.u, RIMS, self.quarters, strict=True):
                self.inside(grid, rows, rim).copy_(cells[..., own])

    def windows(self, grids: Sequence[Tensor], rows: slice) -> list[Tensor]:
        """Cells [R + s - 1, k + s - 1, hidden/4] of quarters that the kernels of the second to the fourth branch read."""
        return [grid[rows.start : rows.stop + 2 * rim] for grid, rim in zip(grids[1:], RIMS[1:], strict=True)]

    def branch_convolved(self, rows: slice) -> list[Tensor]:
        """Cells [R, k, hidden/4] of some rows after the depthwise convolution of each branch."""
        return [convolved(*each) for each in zip(self.windows(self.u, rows), self.p.kernels, strict=True)]

    def before_activation(self, rows: slice, convolutions: Sequence[Tensor]) -> Tensor:
        """Cells [R, k, hidden] of some rows: the first quarter as it is, the others through their pointwise convolution."""
        before, (first, *others) = torch.empty_like(self.placed[rows]), self.quarters
        before[..., first] = self.u[0][rows]
        for own, c, mix in zip(others, convolutions, self.mixes, strict=True):
            affine(c.flatten(0, 1), mix, out=before.flatten(0, 1)[:, own])
        return before

    def aggregated(self, rows: slice, before: Tensor) -> Tensor:
        """Cells [R, k, hidden] of some rows that the attention pools."""
        if self.parts.activate_identity:
            out = hardswish(before)
        else:
            first = self.quarters[0].stop
            out = torch.cat([before[..., :first], hardswish(before[..., first:])], dim=2)
        return out.add_(self.placed[rows]) if self.parts.residual else out

    def scored(self, rows: slice) -> slice:
        """Places of the cells of some rows whose attention counts."""
        return slice(min(rows.start * self.side, self.n_scored), min(rows.stop * self.side, self.n_scored))


class _InBlocks(torch.autograd.Function):
    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:  # torch looks at each named argument at every call
        parts, keeps, h, *parameters = inputs
        p = Parameters(*parameters)
        grid, weights = _Grid(parts, h, p), p.attention
        shape = grid.n_scored, len(weights.tanh)
        branches = Branches(weights)
        memory = branches.memory(shape[0] if keeps else grid.blocks[0].stop * grid.side)
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
            scores[at] = branches.scores(gates_of(memory[place]), r, mask)
            pool.add(scores[at], r)
        return pool.pooled(), scores, memory

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
        h, *parameters, slide, scores, memory = ctx.saved_tensors
        p = Parameters(*parameters)
        grid = _Grid(ctx.parts, h, p)
        pool = PoolGradients(p.attention, ctx.factor, slide, scores, of_slide, of_scores)
        found = _Gradients(grid, pool, memory)
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
    of_c : quarters with rims, as `_Grid.u`: gradient of the first quarter of `u`, and of the branches' convolutions.
    """

    def __init__(self, grid: _Grid, pool: PoolGradients, memory: Tensor) -> None:
        self.grid, self.pool, self.memory = grid, pool, memory
        self.of_r, self.of_c = grid.with_rim(1, grid.width), grid.quarters_with_rims()
        self.of_kernels = [torch.zeros_like(kernel) for kernel in grid.p.kernels]
        self.of_mixes = [torch.zeros_like(mix) for mix in grid.mixes]
        self.of_position = None if grid.p.position is None else torch.zeros_like(grid.p.position)
        self.flipped = [kernel.flip(-1, -2) for kernel in grid.p.kernels]
        width = grid.h.new_zeros(grid.width)
        self.of_position_bias, self.of_norm, self.of_norm_bias = width, width.clone(), width.clone()

    def before_the_mix(self, rows: slice) -> None:
        """First round: from the slide feature and the scores through attention, activation and pointwise convolutions."""
        grid, at = self.grid, self.grid.scored(rows)
        convolutions = grid.branch_convolved(rows)
        before = grid.before_activation(rows, convolutions)
        r = grid.aggregated(rows, before).flatten(0, 1)
        n = at.stop - at.start
        of_r = self.pool.of_rows(at, r[:n], gates_of(self.memory[at]))
        if n < len(r):  # copies that are not pooled
            of_r = torch.cat([of_r, of_r.new_zeros(len(r) - n, grid.width)])
        of_r = of_r.reshape(before.shape)
        grid.inside(self.of_r, rows, 1).copy_(of_r)
        of_before, (first, *others) = torch.ops.aten.hardswish_backward(of_r, before), grid.quarters
        self.of_c[0][rows] = (of_before if grid.parts.activate_identity else of_r)[..., first]
        each = zip(others, grid.mixes, convolutions, grid.windows(grid.u, rows), strict=True)
        for i, (own, mix, c, window) in enumerate(each):
            of_mixed = of_before[..., own].flatten(0, 1)
            add_outer(self.of_mixes[i], of_mixed, c.flatten(0, 1))
            of_c = times(of_mixed, mix).reshape(c.shape)
            add_gradient_of_kernel(self.of_kernels[i], window, of_c)
            grid.inside(self.of_c[i + 1], rows, RIMS[i + 1]).copy_(of_c)

    def before_the_norm(self, rows: slice) -> None:
        """Second round: through the branches' convolutions and the normalisation."""
        grid = self.grid
        placed = grid.placed[rows]
        of_u, (first, *others) = torch.empty_like(placed), grid.quarters
        of_u[..., first] = self.of_c[0][rows]
        for own, window, kernel in zip(others, grid.windows(self.of_c, rows), self.flipped, strict=True):
            of_u[..., own] = convolved(window, kernel)
        if grid.p.norm is not None and grid.p.norm_bias is not None:
            of_u = self._through_norm(placed, of_u)
        of_r = grid.inside(self.of_r, rows, 1)
        of_placed = of_u.add_(of_r) if grid.parts.residual else of_u
        of_r.copy_(of_placed)
        if self.of_position is not None:
            add_gradient_of_kernel(self.of_position, grid.window(rows), of_placed)
            self.of_position_bias += of_placed.sum(dim=(0, 1))

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
        """Third round: gradient [N, hidden] of the embedded patches, through the position encoding."""
        grid, n = self.grid, len(self.grid.h)
        if grid.p.position is None:
            of_cells = grid.inside(self.of_r, slice(0, grid.side), 1).contiguous()
        else:
            of_cells, kernel = grid.placed, grid.p.position.flip(-1, -2)  # nothing reads the placed cells any more
            for rows in grid.blocks:
                through = convolved(self.of_r[rows.start : rows.stop + 2], kernel)
                torch.add(through, grid.inside(self.of_r, rows, 1), out=of_cells[rows])
        of_patches = of_cells.flatten(0, 1)
        of_patches[: grid.n_cells - n] += of_patches[n:]  # the copies are the first patches
        return of_patches[:n]

    def of_parameters(self) -> tuple[Tensor | None, ...]:
        """Gradients of `Parameters`, in order."""
        p = self.grid.p
        mixes = [of_mix.reshape(mix.shape) for of_mix, mix in zip(self.of_mixes, (p.mix3, p.mix5, p.mix7), strict=True)]
        return (
            self.of_position, self.of_position_bias if p.position is not None else None,
            self.of_norm if p.norm is not None else None, self.of_norm_bias if p.norm is not None else None,
            *self.of_kernels, *mixes, *self.pool.of_weights,
        )  # fmt: skip
