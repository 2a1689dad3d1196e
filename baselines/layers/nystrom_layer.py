"""A whole layer of TransMIL on small bags: LayerNorm, Nyström attention of one head, output Linear, dropout and residual.

With so few tokens that tokens x tokens is a small matrix, and with one head, the layer is one such matrix per bag::

    T = A1 Z A3 + M,    y = x + mask * (T u (Wo Wv)^T + b),    u = LayerNorm(x)

M is the convolution along the tokens. Queries and keys are never computed, not even those of landmarks: with the mean m of
a landmark's tokens, q_n . k~ = u_n . (Wq^T Wk m). So of the four products of tokens x H x H one is left. It is one function with its gradient written out, because inside vmap each
operation is entered twice and keeps what it made. All is equal to `NystromAttention` up to rounding.

Shapes as in `landmarks`, with h = 1; r rows are wanted, n or 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from milbench_baselines.layers.below_vmap import applied, backward_of
from milbench_baselines.layers.constants import made_once
from milbench_baselines.layers.landmarks import Plan, Sizes, landmark_matrix, landmark_matrix_backward
from milbench_baselines.layers.nystrom_mixing import BAG, _closed, _in_front, _opened
from milbench_baselines.layers.precision import without_autocast
from milbench_baselines.layers.row_blocks import no_second_gradient
from milbench_baselines.layers.sequence_blocks import ROWS_OF_A_MATRIX, reads_of_a_matrix
from milbench_baselines.layers.whole_inverse import inverse_steps, inverse_steps_backward


class LayerParameters(NamedTuple):
    """LayerNorm [H], projections [3 H, H], kernel [s] of the convolution (s = 1 and zero: none), output [H, H] and [H]."""

    norm: Tensor
    norm_bias: Tensor
    project: Tensor
    kernel: Tensor
    out: Tensor
    out_bias: Tensor


def is_one_matrix(tokens: Tensor, plan: Plan) -> bool:
    """Whether tokens [n, H] are few enough for `small_layer`, on a CPU and in their own precision, and have one head."""
    if tokens.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    has_head = plan.heads == 1 and not plan.zeros_ahead and plan.landmarks <= tokens.shape[-1]
    return has_head and len(tokens) <= ROWS_OF_A_MATRIX and tokens.dtype in (torch.float32, torch.float64)


def small_layer(
    tokens: Tensor, mask: Tensor | None, parameters: LayerParameters, plan: Plan, eps: float
) -> tuple[Tensor, Tensor]:
    """Tokens [r, H] after the layer, and the first token's attention [1, n] if the plan asks for that token alone, else [0, n].

    `mask` [r, H] are the factors of dropout; None = none.
    """
    out, attention = applied(_Layer, (plan, eps), (tokens, mask), parameters, n_outputs=2)
    return out, attention


class _Kept(NamedTuple):
    """What the backward needs. `means` [G, g, H] are those of the landmarks' tokens.

    `both` [G, 2 g, H] has a row Wq^T k~ and a row Wk^T q~ for each landmark; `a1` is [G, g, r], and `a3`, `za3` [G, g, n].
    Of the landmarks' matrix there are A2' and A [G, g, g], theta [G, 1, 1], and `largest` [G, 1, g] as in `Landmarks`.
    """

    mean: Tensor
    scale: Tensor
    normal: Tensor
    u: Tensor
    means: Tensor
    both: Tensor
    a1: Tensor
    a3: Tensor
    za3: Tensor
    t: Tensor
    mixed: Tensor
    shares: Tensor
    a: Tensor
    theta: Tensor
    largest: Tensor


PLACES = ((BAG, 0),) * (2 + len(_Kept._fields)) + ((BAG, 2),)
"""Where the dimension of bags lies in what `_forward` returns: tokens, attention, `_Kept` and the steps of the inverse."""


def _forward(
    sizes: Sizes, eps: float, x: Tensor, mask: Tensor | None, p: LayerParameters
) -> tuple[Tensor, ...]:
    """Tokens [G, r, H], attention, and what `_backward` needs, from tokens `x` [G, n, H]; `mask` is [*lead, r, H]."""
    n_sets, g, r = sizes.n_sets, sizes.groups, 1 if sizes.plan.first_only else sizes.n
    normal, mean, scale = _normalised(x, eps)
    u = torch.addcmul(p.norm_bias[:, None], _of_sets(normal, n_sets), p.norm[:, None]).view(x.shape)
    averages = _averages(sizes, x)
    means = torch.bmm(averages.expand(len(x), -1, -1), u)
    both = torch.bmm(_of_sets(means, n_sets), _query_key(sizes, p.project)).view(-1, 2 * g, sizes.width)
    if r == sizes.n:
        of_landmarks, of_tokens = torch.unflatten(torch.bmm(both, u.mT), 1, (g, 2)).unbind(2)
    else:
        asked, asking = torch.unflatten(both, 1, (g, 2)).unbind(2)
        of_landmarks, of_tokens = torch.bmm(asked, u[:, :1].mT), torch.bmm(asking, u.mT)
    a1 = sizes.with_count(of_landmarks, dim=1).softmax(dim=1)
    of_tokens = of_tokens.contiguous()
    a3 = _shares_beside_zeros(of_tokens, sizes.zeros)
    # q~ k~^T: a landmark's key is the mean of its tokens' keys, so its logit is that of their logits
    shares, a, theta, largest = landmark_matrix(sizes, (of_tokens.view(-1, sizes.n) @ averages.mT).view(-1, g, g))
    steps = inverse_steps(a, theta, sizes.plan.iterations)
    za3 = _scaled(sizes, torch.bmm(steps[-1, 0], _scaled(sizes, a3, 0.5)), -0.5)
    t = torch.bmm(a1.mT, za3)                                                             # [G, r, n]
    attention = t.clone() if r < sizes.n else t.new_empty(len(t), 0, sizes.n)
    torch.unflatten(t, 0, (n_sets, -1)).add_(_convolution(p.kernel, sizes.n, r)[:, None])
    mixed = torch.bmm(t, u)                                                               # [G, r, H]
    to_out = torch.bmm(p.out, p.project[:, 2 * sizes.width :])
    out = torch.baddbmm(p.out_bias[:, None], _of_sets(mixed, n_sets), to_out.mT).view(mixed.shape)
    if mask is None:
        out += x[:, :r]
    else:
        shape = *sizes.lead, r, sizes.width
        out = torch.addcmul(x.view(*sizes.lead, *x.shape[1:])[..., :r, :], out.view(shape), mask).view(out.shape)
    return (out, attention, mean, scale, normal, u, means, both, a1, a3, za3, t, mixed, shares, a, theta, largest, steps)


def _backward(
    sizes: Sizes, of_y: Tensor, x: Tensor, mask: Tensor | None, p: LayerParameters, saved: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Gradients of the tokens and the parameters from that of the layer's tokens [G, r, H]; `saved` is the forward's rest."""
    kept, steps = _Kept(*saved[:-1]), saved[-1]
    n_sets, g, r = sizes.n_sets, sizes.groups, of_y.shape[1]
    to_query, to_key, to_value = p.project.chunk(3, dim=1)
    of_out = of_y if mask is None else (of_y.view(*sizes.lead, *of_y.shape[1:]) * mask).view(of_y.shape)
    of_out = _of_sets(of_out, n_sets)
    of_to_out = torch.bmm(of_out.mT, _of_sets(kept.mixed, n_sets))
    of_mixed = torch.bmm(of_out, torch.bmm(p.out, to_value)).view(of_y.shape)
    of_t = torch.bmm(of_mixed, kept.u.mT)                                                 # [G, r, n]
    of_kernel = _convolution_backward(torch.unflatten(of_t, 0, (n_sets, -1)).sum(dim=1), p.kernel)
    of_a1, of_za3 = torch.bmm(kept.za3, of_t.mT), torch.bmm(kept.a1, of_t)
    of_za3 = _scaled(sizes, of_za3, -0.5)
    of_inverse = torch.bmm(of_za3, _scaled(sizes, kept.a3, 0.5).mT)
    of_a3 = _scaled(sizes, torch.bmm(steps[-1, 0].mT, of_za3), 0.5)
    of_landmarks = torch._softmax_backward_data(of_a1, kept.a1, 1, of_a1.dtype)           # [G, g, r]
    of_tokens = torch._softmax_backward_data(of_a3, kept.a3, -1, of_a3.dtype)             # [G, g, n]
    of_a = inverse_steps_backward(steps, kept.a, kept.theta, of_inverse)
    of_shares = landmark_matrix_backward(sizes, kept.shares, kept.theta, kept.largest, *of_a)
    averages = _averages(sizes, x)
    of_tokens.view(-1, sizes.n).addmm_(of_shares.view(-1, g), averages)
    if r == sizes.n:
        readers = torch.stack([of_landmarks, of_tokens], dim=2).flatten(1, 2)             # [G, 2 g, n]
        of_both = torch.bmm(readers, kept.u)
    else:
        asked, asking = torch.unflatten(kept.both, 1, (g, 2)).unbind(2)
        of_both = torch.stack([torch.bmm(of_landmarks, kept.u[:, :1]), torch.bmm(of_tokens, kept.u)], dim=2)
    of_both = of_both.view(n_sets, -1, 2 * sizes.width)
    of_means = torch.bmm(of_both, _query_key(sizes, p.project).mT).view(kept.means.shape)
    of_asked, of_asking = torch.bmm(_of_sets(kept.means, n_sets).mT, of_both).mul_(sizes.scale).chunk(2, dim=2)
    of_product = of_asked.mT + of_asking                                                  # of Wq^T Wk
    of_project = torch.cat(
        [torch.bmm(to_key, of_product.mT), torch.bmm(to_query, of_product), torch.bmm(p.out.mT, of_to_out)], dim=1
    )
    averages = averages.expand(len(x), -1, -1)
    if r == sizes.n:
        read = torch.cat([kept.both, of_means], dim=1)
        of_u = torch.bmm(kept.t.mT, of_mixed).baddbmm_(torch.cat([readers, averages], dim=1).mT, read)
    else:
        readers = torch.cat([kept.t, of_tokens, averages], dim=1)
        of_u = torch.bmm(readers.mT, torch.cat([of_mixed, asking, of_means], dim=1))
        of_u[:, :1] += torch.bmm(of_landmarks.mT, asked)
    of_rows = _of_sets(of_u, n_sets)
    of_norm, of_norm_bias = (of_rows * _of_sets(kept.normal, n_sets)).sum(dim=1), of_rows.sum(dim=1)
    of_rows *= p.norm[:, None]
    of_x = torch.ops.aten.native_layer_norm_backward(
        of_u, x, (sizes.width,), kept.mean, kept.scale, None, None, [True, False, False]
    )[0]
    of_x[:, :r] += of_y
    return of_x, of_norm, of_norm_bias, of_project, of_kernel, torch.bmm(of_to_out, to_value.mT), of_out.sum(dim=1)


def _normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of mean 0 and variance 1, their former means, and the factors [G, n, 1]; torch's own takes twice as long for short rows."""
    mean = x.mean(dim=-1, keepdim=True)
    apart = x - mean
    lengths = torch.linalg.vector_norm(apart, dim=-1, keepdim=True)
    scale = lengths.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()
    return apart.mul_(scale), mean, scale


def _query_key(sizes: Sizes, project: Tensor) -> Tensor:
    """Matrices [S, H, 2 H] that take the mean of a landmark's tokens to Wq^T k~ and Wk^T q~, over sqrt d both."""
    to_query, to_key, _ = project.chunk(3, dim=1)
    product = torch.bmm(to_query.mT, to_key).mul_(sizes.scale)
    return torch.cat([product.mT, product], dim=2)


def _of_sets(rows: Tensor, n_sets: int) -> Tensor:
    """Rows [S, B r, c] of `rows` [G, r, c]."""
    return rows.reshape(n_sets, -1, rows.shape[-1])


def _scaled(sizes: Sizes, rows: Tensor, power: float) -> Tensor:
    """`rows` [G, g, n] with the first times z^power; the same tensor if no landmarks are alike."""
    return sizes.scaled(rows.clone(), 1, power) if sizes.n_alike > 1 else rows


def _shares_beside_zeros(logits: Tensor, zeros: int) -> Tensor:
    """Softmax of logits [G, g, n] beside so many more that are 0 and not returned."""
    if not zeros:
        return logits.softmax(dim=-1)
    highest = logits.amax(dim=-1, keepdim=True).clamp_(min=0)
    weights = (logits - highest).exp_()
    return weights.div_(weights.sum(dim=-1, keepdim=True).add_(highest.neg_().exp_(), alpha=zeros))


def _averages(sizes: Sizes, like: Tensor) -> Tensor:
    """Matrix [g, n] that gives each landmark's mean of the tokens."""
    return _averages_of(sizes.plan, sizes.n, like.dtype)


@made_once
def _averages_of(plan: Plan, n: int, dtype: torch.dtype) -> Tensor:
    tokens = torch.eye(n, dtype=dtype)[None]
    return Sizes(plan, tokens, tokens).means(tokens)[0]


def _convolution(kernel: Tensor, n: int, r: int) -> Tensor:
    """Matrices [S, r, n] that convolve along n tokens, of kernels [S, s]; the first r rows."""
    reads = reads_of_a_matrix(n, kernel.shape[-1], kernel.dtype, kernel.device)
    return torch.unflatten(kernel @ reads[:, : r * n], -1, (r, n))


def _convolution_backward(of_matrices: Tensor, kernel: Tensor) -> Tensor:
    """Gradient [S, s] of the kernels from that of the matrices [S, r, n]."""
    reads = reads_of_a_matrix(of_matrices.shape[-1], kernel.shape[-1], kernel.dtype, kernel.device)
    flat = of_matrices.flatten(1)
    return flat @ reads[:, : flat.shape[1]].mT


# ---- as a function of autograd and vmap ----------------------------------------------------------


class _Layer(torch.autograd.Function):
    """`_forward` of tokens [*S, *B, n, H] and parameters [*S, *1, ...], as `_Mixed` of `nystrom_mixing`."""

    @staticmethod
    def forward(plan: Plan, eps: float, tokens: Tensor, mask: Tensor | None, *parameters: Tensor) -> tuple[Tensor, ...]:
        flat = _flat(parameters)
        sizes = Sizes(plan, tokens, parameters[2])
        with without_autocast(tokens.device):
            found = _forward(sizes, eps, tokens.reshape(-1, *tokens.shape[-2:]), mask, flat)
        return tuple(_opened(each, sizes, *place) for each, place in zip(found, PLACES, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.plan, _, *given = inputs
        ctx.save_for_backward(*given, *output[2:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, of_y: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if of_y is None:
            return (None,) * (4 + len(LayerParameters._fields))
        of_x, *of_parameters = backward_of(_LayerBackward, ctx.plan, of_y, *ctx.saved_tensors)
        return None, None, of_x, None, *of_parameters

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], plan: Plan, eps: float, tokens: Tensor, mask: Tensor | None, *parameters: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        own = any(dim is not None for dim in in_dims[4:]) or any(n != 1 for n in parameters[2].shape[:-2])
        size = info.batch_size
        given = [_in_front(*each, 0, size if own else 1) for each in zip(parameters, in_dims[4:], strict=True)]
        mask = None if mask is None else _in_front(mask, in_dims[3], 0, size)
        found = _Layer.apply(plan, eps, _in_front(tokens, in_dims[2], 0, size), mask, *given)  # type: ignore[no-untyped-call]
        return found, tuple(at for _, at in PLACES)


class _LayerBackward(torch.autograd.Function):
    """`_backward`. It is a function so that under vmap it computes with plain tensors too."""

    @staticmethod
    def forward(plan: Plan, of_y: Tensor, tokens: Tensor, mask: Tensor | None, *saved: Tensor) -> tuple[Tensor, ...]:
        n_parameters = len(LayerParameters._fields)
        parameters, kept = saved[:n_parameters], saved[n_parameters:]
        sizes = Sizes(plan, tokens, parameters[2])
        closed = tuple(_closed(each, sizes, *place) for each, place in zip(kept, PLACES[2:], strict=True))
        x, of_y = (each.reshape(-1, *each.shape[-2:]) for each in (tokens, of_y))
        with without_autocast(tokens.device):
            found = _backward(sizes, of_y, x, mask, _flat(parameters), closed)
        return tuple(each.reshape(like.shape) for each, like in zip(found, (tokens, *parameters), strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept."""

    backward = staticmethod(no_second_gradient)  # type: ignore[assignment]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], plan: Plan, of_y: Tensor, tokens: Tensor, mask: Tensor | None, *saved: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        n_parameters = len(LayerParameters._fields)
        ahead = [*(0,) * n_parameters, *(at for _, at in PLACES[2:])]
        of_y, tokens = (_in_front(each, dim, 0, info.batch_size) for each, dim in zip((of_y, tokens), in_dims[1:], strict=False))
        mask = None if mask is None else _in_front(mask, in_dims[3], 0, info.batch_size)
        moved = [_in_front(each, dim, at, info.batch_size) for each, dim, at in zip(saved, in_dims[4:], ahead, strict=True)]
        return _LayerBackward.apply(plan, of_y, tokens, mask, *moved), (0,) * (1 + n_parameters)  # type: ignore[no-untyped-call]


def _flat(parameters: tuple[Tensor, ...]) -> LayerParameters:
    """Parameters [S, ...] of parameters [*S, *1, ...]."""
    own = (1, 1, 2, 1, 2, 1)
    return LayerParameters(*(each.reshape(-1, *each.shape[-n:]) for each, n in zip(parameters, own, strict=True)))
