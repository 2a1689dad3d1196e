"""Mixtures of experts on small bags, from the experts' slide features to the logits, as one function of all models and bags.

Gates, mixtures and towers are about thirty operations on a few numbers each, which cost only to start. Here they work on
plain tensors, and the gradient is written out. All is equal to `MMoE.forward` and `M4.forward` up to rounding.

Shapes: S stacked models, B bags; T tasks, E experts, H channels in J segments of C, tower width w; W = T logits. A gate reads
I numbers: of MMoE the mean patch (J = 1), of M4 a segment of the proxies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from milbench_baselines.layers.below_vmap import applied, is_below_vmaps
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.row_blocks import FEW, differentiable_once
from milbench_baselines.layers.side_by_side import weights_and_biases
from milbench_baselines.layers.tower import are_usual_towers
from milbench_baselines.layers.usual import are_linear, is_listened_to


class Sizes(NamedTuple):
    """Segments J of a mixture, and the factor of what dropout lets pass in the towers."""

    segments: int
    factor: float


class Parameters(NamedTuple):
    """Towers [S, T, w, H], [S, T, w], [S, T, 1, w] and [S, T, 1]; gates [S, T, E, I] and [S, T, E]; M4's proxies [S, H, D] and [S, H]."""

    first: Tensor
    first_bias: Tensor
    last: Tensor
    last_bias: Tensor
    gate: Tensor
    gate_bias: Tensor
    proxy: Tensor | None = None
    proxy_bias: Tensor | None = None


DIMS = (3, 2, 3, 2, 3, 2, 2, 1)
"""Dimensions of the parameters of one model."""


def is_small(features: Tensor, towers: nn.ModuleList, *others: nn.Module) -> bool:
    """Whether mixtures of bags like `features` [N, D] go through `mixed_small`, which gives the bag no gradient.

    It is so inside vmap over bags or models: few patches, one logit per task, on a CPU, in their own precision. Nobody listens
    to towers or `others` by a hook.
    """
    if not torch._C._are_functorch_transforms_active() or not is_below_vmaps():
        return False
    if features.device.type != "cpu" or torch.is_autocast_enabled("cpu") or features.requires_grad:
        return False
    if any(is_listened_to(each) for each in others) or not are_usual_towers(towers):
        return False
    if any(not isinstance(each, nn.ModuleList) and not are_linear(each) for each in others):
        return False
    has_towers = all(cast(Any, tower)[3].out_features == 1 for tower in towers)
    return has_towers and len(features) <= FEW and features.dtype in (torch.float32, torch.float64)


def mixed_small(
    slides: Tensor,
    mean: Tensor,
    towers: nn.ModuleList,
    gates: Sequence[nn.Module],
    proxy: nn.Linear | None = None,
    segments: int = 1,
) -> tuple[Tensor, Tensor]:
    """Logits [T] and gate weights [T, J, E] of the experts' slide features [E, H] and the mean patch [D]."""
    dropout, first = cast(Dropout, cast(Any, towers)[0][2]), [cast(Any, tower)[0] for tower in towers]
    mask = dropout.mask((len(first), 1, first[0].out_features), like=slides) if dropout.draws else None
    last = [cast(Any, tower)[3] for tower in towers]
    parameters = [parameter for layers in (first, last, gates) for parameter in weights_and_biases(layers)]
    parameters += [] if proxy is None else [proxy.weight, proxy.bias]
    sizes = Sizes(segments, dropout.factor)
    logits, weights = applied(_Mixture, (sizes,), (slides, mean, mask), parameters, n_outputs=2)
    return logits, weights


class _Mixture(torch.autograd.Function):
    """Logits [*S, *B, T] and gate weights [*S, *B, T, J, E] of slide features [*S, *B, E, H], means [*S, *B, D] and masks [.., T, 1, w]."""

    @staticmethod
    def forward(
        sizes: Sizes, slides: Tensor, mean: Tensor, mask: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        p, lead = _flat(parameters), slides.shape[:-2]
        (n_sets, n_tasks, width, _), n_experts, j = p.first.shape, slides.shape[-2], sizes.segments
        x = mean.reshape(n_sets, -1, mean.shape[-1])  # [S, B, D]
        n_bags = x.shape[1]
        if p.proxy is not None and p.proxy_bias is not None:
            x = torch.baddbmm(p.proxy_bias[:, None], x, p.proxy.mT).relu_()  # [S, B, H]
        q = x.view(n_sets, n_bags * j, -1)  # [S, B J, I]
        scores = torch.baddbmm(p.gate_bias.view(n_sets, 1, -1), q, p.gate.flatten(1, 2).mT)
        g = scores.view(-1, n_tasks, n_experts).softmax(dim=-1)  # [S B J, T, E]
        m = _by_segment(slides.reshape(n_sets * n_bags, n_experts, -1), j)  # [S B J, E, C]
        z = torch.bmm(g, m).view(n_sets, n_bags, j, n_tasks, -1).permute(0, 3, 1, 2, 4)
        z = z.reshape(n_sets * n_tasks, n_bags, -1)  # [S T, B, H]
        h = torch.baddbmm(p.first_bias.view(-1, 1, width), z, p.first.flatten(0, 1).mT).relu_()
        if mask is not None:
            h.view(n_sets, n_tasks, n_bags, width).mul_(mask.view(n_sets, n_bags, n_tasks, width).transpose(1, 2))
        logits = torch.baddbmm(p.last_bias.view(-1, 1, 1), h, p.last.flatten(0, 1).mT)  # [S T, B, 1]
        logits = logits.view(n_sets, n_tasks, n_bags).transpose(1, 2).reshape(*lead, n_tasks)
        weights = g.view(n_sets * n_bags, j, n_tasks, n_experts).transpose(1, 2)
        return logits, weights.reshape(*lead, n_tasks, j, n_experts), q, g, m, z, h

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.sizes, slides, mean, _, *parameters = inputs
        ctx.save_for_backward(slides, mean, *parameters, *output[2:])
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_logits: Tensor | None, of_weights: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        slides, mean, *parameters, q, g, m, z, h = ctx.saved_tensors
        p, j = _flat(tuple(parameters)), ctx.sizes.segments
        n_sets, n_tasks, width = p.first.shape[:3]
        n_bags = z.shape[1]
        of_logits = (
            z.new_zeros(n_sets, n_bags, n_tasks) if of_logits is None else of_logits.reshape(n_sets, n_bags, n_tasks)
        )
        of_out = of_logits.transpose(1, 2).reshape(-1, n_bags, 1)  # [S T, B, 1]
        of_h = (of_out * p.last.view(-1, 1, width)).mul_(ctx.sizes.factor)
        of_h = torch.ops.aten.threshold_backward(of_h, h, 0)  # above zero, ReLU and mask have let a number pass
        of_z = torch.bmm(of_h, p.first.flatten(0, 1)).view(n_sets, n_tasks, n_bags, j, -1)
        of_z = of_z.permute(0, 2, 3, 1, 4).reshape(len(g), n_tasks, -1)  # [S B J, T, C]
        of_g = torch.bmm(of_z, m.mT)
        if of_weights is not None:
            of_g += of_weights.reshape(-1, n_tasks, j, g.shape[-1]).transpose(1, 2).reshape(g.shape)
        of_m = torch.bmm(g.mT, of_z).view(-1, j, *m.shape[1:]).transpose(1, 2)  # [S B, E, J, C]
        of_scores = torch._softmax_backward_data(of_g, g, -1, g.dtype).view(n_sets, n_bags * j, -1)
        of_parameters = [
            torch.bmm(of_h.mT, z), of_h.sum(dim=1), torch.bmm(of_out.mT, h), of_out.sum(dim=1),
            torch.bmm(of_scores.mT, q), of_scores.sum(dim=1),
        ]  # fmt: skip
        if p.proxy is not None:
            of_q = torch.ops.aten.threshold_backward(torch.bmm(of_scores, p.gate.flatten(1, 2)), q, 0).view(
                n_sets, n_bags, -1
            )
            of_parameters += [torch.bmm(of_q.mT, mean.reshape(n_sets, n_bags, -1)), of_q.sum(dim=1)]
        found = (each.reshape(like.shape) for each, like in zip(of_parameters, parameters, strict=True))
        return None, of_m.reshape(slides.shape), None, None, *found


def _flat(parameters: tuple[Tensor, ...]) -> Parameters:
    """Parameters [S, ...] of parameters [*S, *1, ...]."""
    n_sets = parameters[0].shape[:-3].numel()
    return Parameters(*(each.reshape(n_sets, *each.shape[-n:]) for each, n in zip(parameters, DIMS, strict=False)))


def _by_segment(slides: Tensor, segments: int) -> Tensor:
    """Slide features [S B J, E, C] of `slides` [S B, E, H]."""
    if segments == 1:
        return slides
    return slides.view(*slides.shape[:2], segments, -1).transpose(1, 2).flatten(0, 1)
