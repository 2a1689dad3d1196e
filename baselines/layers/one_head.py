"""Nyström mixing of one head on a bag that stays in the cache, in as few operations as possible.

A narrow bag costs less to compute than its operations to start. With one head all that is linear in the tokens u can be done
to few rows: with a landmark's query q~ and key k~,

    q~ . k_n = (Wk^T q~) . u_n,    q_n . k~ = (Wq^T k~) . u_n,    A1 Z A3 v + convolved v = (A1 Z A3 u + convolved u) Wv^T

So neither queries nor keys are computed, and tokens are projected once. All is equal to `nystrom_mixing` up to rounding.

Shapes: n tokens of width H behind zeros, L = n + zeros a multiple of the m landmarks; r rows are wanted, n or 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from milbench_baselines.layers import sequence_blocks
from milbench_baselines.layers.landmarks import Plan
from milbench_baselines.layers.row_blocks import differentiable_once
from milbench_baselines.layers.small_bags import MOST, NUMBERS, WIDEST
from milbench_baselines.layers.whole_inverse import inverse_steps, inverse_steps_backward

LANDMARKS = 64
"""Most landmarks of which the inverse itself is computed. Of more, `pseudo_inverse_product` takes fewer products."""


def is_narrow(tokens: Tensor, plan: Plan) -> bool:
    """Whether tokens [n, H] go through `mixed_narrow`: one head and few numbers, on a CPU, in their own precision."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    n, width = tokens.shape
    if plan.heads > 1 or plan.zeros_ahead or plan.landmarks > min(width, LANDMARKS):
        return False
    if width > WIDEST or n > MOST or n * width > NUMBERS:
        return False
    return tokens.device.type == "cpu" and tokens.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")


def mixed_narrow(u: Tensor, weight: Tensor, kernel: Tensor | None, plan: Plan) -> tuple[Tensor, Tensor]:
    """As `nystrom_mixing.mixed`, for tokens `u` [n, H], projections [3 H, H] and the kernel [1, s] of one head."""
    n, width = u.shape
    zeros = -n % plan.landmarks
    padded = pad(u, (0, 0, zeros, 0)) if zeros else u                                # [L, H]
    to_query, to_key, to_value = torch.split(weight, width)                          # [H, H] each
    means = padded.view(plan.landmarks, -1, width).mean(dim=1)                       # [m, H]
    query, key = (means @ weight[: 2 * width].T).mul_(width**-0.5).chunk(2, dim=1)   # q~, k~ over sqrt H
    asking = query @ to_key                                                          # [m, H]  Wk^T q~
    a2 = (asking @ means.T).softmax(dim=1)                                           # [m, m]
    a3 = (asking @ padded.T).softmax(dim=1)                                          # [m, L]
    z = _inverse(a2, plan.iterations)                                                # [m, m]
    if plan.first_only:
        first = torch.split(u, [1, n - 1])[0] if n > 1 else u                        # a slice's gradient has all rows
        a1 = ((first @ to_query.T) @ key.T).softmax(dim=1)                           # [1, m]
        shares = ((a1 @ z) @ a3)[:, zeros:]                                          # [1, n]  A1 Z A3
        mixed = (shares if kernel is None else shares + _near(kernel, n)) @ u        # [1, H]
        return linear(mixed, to_value), shares.detach()
    a1 = (key @ to_query @ u.T).softmax(dim=0)                                       # [m, n]  (Wq^T k~) . u_n
    mixed = a1.T @ (z @ (a3 @ padded))                                               # [n, H]  A1 Z A3 u
    mixed = mixed if kernel is None else _AddConvolved.apply(mixed, u, kernel)       # type: ignore[no-untyped-call]
    return linear(mixed, to_value), u.new_empty(1, 0)


def _near(kernel: Tensor, n: int) -> Tensor:
    """Shares [1, n] that the convolution's first row adds."""
    middle = kernel.shape[1] // 2
    return pad(kernel[:, middle : middle + n], (0, max(0, n - middle - 1)))


def _inverse(a: Tensor, iterations: int) -> Tensor:
    """Approximate inverse [m, m] of A [m, m] whose rows sum to 1."""
    theta = a.sum(dim=0).amax().reciprocal()
    if torch.is_grad_enabled():
        return _Inverse.apply(iterations, a, theta)[0]  # type: ignore[no-any-return, no-untyped-call]
    return inverse_steps(a[None], theta, iterations)[-1, 0, 0]


class _Inverse(torch.autograd.Function):
    """The inverse, and what the backward needs."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:  # torch looks at each named argument at every call
        iterations, a, theta = inputs
        steps = inverse_steps(a[None], theta, iterations)
        return steps[-1, 0, 0].clone(), steps

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs[1:], output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_z: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if of_z is None:
            return None, None, None
        a, theta, steps = ctx.saved_tensors
        of_a, of_log_theta = inverse_steps_backward(steps, a[None], theta, of_z[None])
        return None, of_a[0], (of_log_theta / theta).view(())


class _AddConvolved(torch.autograd.Function):
    """`rows` [n, H] plus `u` [n, H] convolved along the tokens with a kernel [1, s]. It writes into `rows`."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        rows, u, kernel = inputs
        sequence_blocks.add_convolved(rows[None, :, None], u[None, :, None], kernel[None])
        return rows  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_dirty(inputs[0])
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_out: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        u, kernel = ctx.saved_tensors
        of_u, rows = torch.zeros_like(u), of_out[None, :, None]
        sequence_blocks.add_convolved(of_u[None, :, None], rows, kernel[None].flip(-1))
        return of_out, of_u, sequence_blocks.of_kernels(rows, u[None, :, None], kernel[None])[0]
