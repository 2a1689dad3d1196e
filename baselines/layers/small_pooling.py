"""Mean and max pooling of small bags, from patches to logits, as one function of all stacked models and all bags.

A bag of a few dozen patches costs less to compute than to start. All is equal to `PoolingModel` up to rounding.

Shapes: S stacked models, B bags of N patches [N, D]; H channels; W logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from milbench_baselines.layers.below_vmap import applied, is_below_vmaps
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.row_blocks import FEW, differentiable_once
from milbench_baselines.layers.small_bags import WIDEST, together


class Flat(NamedTuple):
    """Bags [S, B N, D], where models that share their bags share their memory, embedding [S, H, D] and [S, 1, H], head [S, W, H]
    and [S, 1, W].
    """

    x: Tensor
    embed: Tensor
    embed_bias: Tensor
    head: Tensor
    head_bias: Tensor

    @classmethod
    def of(cls, x: Tensor, parameters: tuple[Tensor, ...]) -> Flat:
        """Those of tensors with the dimensions of vmap in front."""
        n_sets = parameters[0].shape[:-2].numel()
        matrices = [each.reshape(n_sets, -1, each.shape[-1]) for each in parameters]
        return cls(x.reshape(n_sets, -1, x.shape[-1]), *matrices)


def is_small(features: Tensor, width: int) -> bool:
    """Whether bags like `features` [N, D] go through the functions of this module, which give the bag no gradient.

    It is so inside vmap over stacked models: few patches, an embedding no wider than `WIDEST`, on a CPU, in their own precision.
    """
    if not torch._C._are_functorch_transforms_active() or not is_below_vmaps():
        return False
    if features.device.type != "cpu" or torch.is_autocast_enabled("cpu") or features.requires_grad:
        return False
    is_few = len(features) <= FEW and width <= WIDEST
    return is_few and features.dtype in (torch.float32, torch.float64)


def pooled_small(
    features: Tensor, embed: nn.Sequential, dropout: Dropout, head: nn.Linear, *, highest: bool
) -> tuple[Tensor, Tensor]:
    """Logits [W] of patches [N, D], each the mean or the highest over the patches, and the patches' own [N, W], without gradient."""
    layer = cast(nn.Linear, embed[0])
    mask = dropout.mask((len(features), layer.out_features), like=features) if dropout.draws else None
    function: type[Any] = _Highest if highest else _Mean
    parameters = (layer.weight, layer.bias, head.weight, head.bias)
    logits, scores = applied(function, (dropout.factor, True), (features, mask), parameters, n_outputs=2)
    return logits, scores


def pooled_stack(bags: Sequence[Tensor], embed: nn.Sequential, dropout: Dropout, head: nn.Linear, *, highest: bool) -> Tensor:
    """Logits [S, B, W] of `pooled_small` for stacked layers, whose parameters are [S, ...]."""
    x, layer = together(bags), cast(nn.Linear, embed[0])
    n_models, width, _ = layer.weight.shape
    mask = dropout.masks(len(x), (x.shape[1], width), like=x)
    function: type[Any] = _Highest if highest else _Mean
    rows = x.expand(n_models, *x.shape), mask
    return applied(function, (dropout.factor, False), rows, (layer.weight, layer.bias, head.weight, head.bias), n_outputs=1)[0]


def _embedded(p: Flat, mask: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """Embedded patches [S, B N, H] of bags that have this shape [*S, *B, N]."""
    h = torch.baddbmm(p.embed_bias, p.x, p.embed.mT).relu_()
    if mask is not None:
        h.view(*shape, -1).mul_(mask)
    return h


def _scores(h: Tensor, p: Flat) -> Tensor:
    """Logits [S, B N, W] of embedded patches. A few rows by a matrix take a third of the time of a matrix by a few columns."""
    return torch.baddbmm(p.head_bias.mT, p.head, h.mT).mT


class _Mean(torch.autograd.Function):
    """Logits [*S, *B, W] and scores [*S, *B, N, W] of bags [*S, *B, N, D] and masks [*S, *B, N, H]."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        _, wants_scores, x, mask, *parameters = inputs
        p, shape = Flat.of(x, tuple(parameters)), x.shape[:-1]
        h = _embedded(p, mask, shape)
        mean = h.view(len(h), -1, shape[-1], h.shape[-1]).mean(dim=2)                      # [S, B, H]
        logits = torch.baddbmm(p.head_bias, mean, p.head.mT)
        scores = _scores(h, p).reshape(*shape, -1) if wants_scores else h.new_empty(0)
        return logits.view(*shape[:-1], -1), scores, h, mean

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.factor, _, x, _, *parameters = inputs
        ctx.save_for_backward(x, *parameters, *output[2:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_logits: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if of_logits is None:
            return (None,) * 8
        x, *parameters, h, mean = ctx.saved_tensors
        p, n = Flat.of(x, tuple(parameters)), x.shape[-2]
        of_logits = of_logits.reshape(len(h), -1, of_logits.shape[-1])                     # [S, B, W]
        of_mean = torch.bmm(of_logits, p.head).mul_(ctx.factor / n)
        by_bag = h.view(*of_mean.shape[:2], n, -1)
        # above zero, ReLU and mask have let a number pass
        of_z = torch.ops.aten.threshold_backward(of_mean[:, :, None].expand_as(by_bag), by_bag, 0).view(h.shape)
        return None, None, None, None, *_of(parameters, of_z, p.x, of_logits, mean)


class _Highest(torch.autograd.Function):
    """As `_Mean`, with the highest score of each column: the first of equals. The gradient is that of its patch alone."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        _, _, x, mask, *parameters = inputs
        p, shape = Flat.of(x, tuple(parameters)), x.shape[:-1]
        h = _embedded(p, mask, shape)
        scores = _scores(h, p)
        logits, places = scores.reshape(len(h), -1, shape[-1], scores.shape[-1]).max(dim=2)   # [S, B, W]
        starts = torch.arange(0, h.shape[1], shape[-1])[:, None]
        places = (places + starts).flatten(1)[..., None]                                   # [S, B W, 1]
        found = (rows.gather(1, places.expand(-1, -1, rows.shape[-1])) for rows in (h, p.x))
        return logits.view(*shape[:-1], -1), scores.reshape(*shape, -1), *found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.factor, _, _, _, *parameters = inputs
        ctx.save_for_backward(*parameters, *output[2:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_logits: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if of_logits is None:
            return (None,) * 8
        *parameters, h, x = ctx.saved_tensors                                              # [S, B W, H], [S, B W, D]
        head = parameters[2].reshape(len(h), 1, -1, h.shape[-1])                           # [S, 1, W, H]
        of_logits = of_logits.reshape(len(h), -1, head.shape[2])
        of_h = (of_logits[..., None] * head).view(h.shape).mul_(ctx.factor)
        of_z = torch.ops.aten.threshold_backward(of_h, h, 0)
        own = torch.diag_embed(of_logits).flatten(1, 2)                                    # [S, B W, W]
        return None, None, None, None, *_of(parameters, of_z, x, own, h)


def _of(parameters: list[Tensor], of_z: Tensor, x: Tensor, of_logits: Tensor, rows: Tensor) -> list[Tensor]:
    """Gradients of all parameters: of the embedding by rows `x`, of the head by `rows`, each [S, .., D or H]."""
    found = (torch.bmm(of_z.mT, x), of_z.sum(dim=1), torch.bmm(of_logits.mT, rows), of_logits.sum(dim=1))
    return [each.view(like.shape) for each, like in zip(found, parameters, strict=True)]
