"""MP-AMIL: AMIL on a square grid of patches, with convolutions of several sizes between embedding and pooling.

paper    Li et al., M4, 2024, Algorithm 1
code     Bigyehahaha/M4@192a77b, the experts of `M4`
differs  the experts' unused Linear 512 -> 4 is left out unless `dead_layer`
         where paper and code disagree the code is the default; the options of `MPAMIL` say which is which
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import hardswish

from milbench.endpoints.outputs import Outputs
from milbench.errors import UsageError
from milbench.models import AttentionMaps, BagOutput
from milbench_baselines.layers.attention_expert import DEAD_CLASSES
from milbench_baselines.layers.attention_pooling import weighted_sum
from milbench_baselines.layers.depthwise import CELLS_OF_A_MATRIX, depthwise, goes_as_matrices
from milbench_baselines.layers.embedding import EMBEDDING, Embedding
from milbench_baselines.layers.gated_attention import ATTENTION, GatedAttention
from milbench_baselines.layers.gated_pooling import fused_pooling, gated_pooling, goes_fused
from milbench_baselines.layers.grid_attention import Parameters, Parts, pooled_grid
from milbench_baselines.layers.initialisation import xavier
from milbench_baselines.layers.masks import DRAWN, Masks
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.row_blocks import FEW, goes_in_blocks
from milbench_baselines.layers.side_by_side import by_its_own, layer_norm_on_own_rows, of_each
from milbench_baselines.layers.small_experts import is_small, pooled_small
from milbench_baselines.layers.small_grids import GridParameters
from milbench_baselines.layers.square_grid import side_of
from milbench_baselines.layers.usual import convolution, is_made_of, is_usual

SEGMENTS = 4
"""Consecutive quarters of the channels: one per branch of the aggregator, and one per proxy of M4's gate."""

KERNELS = (3, 5, 7)
"""Sizes of the depthwise convolutions, of the second to the fourth branch."""


class Aggregator(nn.Module):
    """Aggregated rows [k*k, hidden] of a grid's rows [k*k, hidden] (M4 paper, Alg. 1).

    The channels are cut into four quarters. The first passes. The others go through a depthwise convolution of kernel
    3, 5 or 7, then a pointwise one; neither has biases. All strides are 1, as in the code: with the paper's strides 2 and
    3 the branches have different sizes and cannot be concatenated.

    Parameters
    ----------
    hidden : width of the rows; a multiple of 4.
    activate_identity : Hardswish on all four quarters, as in the code. False leaves it out of the first quarter, which
        the paper calls identity.
    """

    def __init__(self, hidden: int, *, activate_identity: bool = True) -> None:
        super().__init__()
        width = hidden // SEGMENTS
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False),
                nn.Conv2d(width, width, 1, bias=False),
            )
            for kernel in KERNELS
        )
        self.activate_identity = activate_identity

    def forward(self, rows: Tensor, side: int) -> Tensor:
        """Aggregated rows [k*k, hidden] of a grid of `side` k."""
        if self.is_usual:
            return self.of_all([self], rows[:, None], side).squeeze(1)
        first, *others = rows.chunk(SEGMENTS, dim=1)
        parts = [on_grid(branch, own, side) for branch, own in zip(self.branches, others, strict=True)]
        if self.activate_identity:
            return hardswish(torch.cat([first, *parts], dim=1))
        return torch.cat([first, hardswish(torch.cat(parts, dim=1))], dim=1)

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take this one's place."""
        return is_made_of(self, *AGGREGATOR)

    @staticmethod
    def of_all(aggregators: Sequence[Aggregator], rows: Tensor, side: int) -> Tensor:
        """Aggregated rows [k*k, E, hidden] of E aggregators: `forward` of each on its own rows `rows[:, e]`."""
        first, *others = rows.chunk(SEGMENTS, dim=2)                      # four of [k*k, E, hidden/4]
        branches: list[Any] = list(zip(*(each.branches for each in aggregators), strict=True))  # three of E
        convolved = _each_convolved(others, [[each[0] for each in branch] for branch in branches], side)  # 3 x 3, 5 x 5, 7 x 7
        parts = _each_mixed(convolved, [[each[1] for each in branch] for branch in branches])
        if aggregators[0].activate_identity:
            return hardswish(torch.cat([first, *parts], dim=2))
        return torch.cat([first, hardswish(torch.cat(parts, dim=2))], dim=2)


POINTWISE = convolution((1, 1), bias=False)
"""Kind of the convolution behind each of the others."""

BRANCHES = [(nn.Sequential, convolution((size, size), bias=False), POINTWISE) for size in KERNELS]
AGGREGATOR = Aggregator, nn.ModuleList, *(part for branch in BRANCHES for part in branch)
"""Kinds of an aggregator and its parts."""

POSITION = convolution((3, 3), bias=True)
"""Kind of the position encoding."""


def on_grid(layer: nn.Module, rows: Tensor, side: int) -> Tensor:
    """Rows [k*k, C] that a module for images makes of rows [k*k, C] of a grid of `side` k."""
    image = layer(rows.T.reshape(1, -1, side, side))               # [1, C, k, k]
    return image[0].flatten(1).T  # type: ignore[no-any-return]


def _each_convolved(rows: Sequence[Tensor], layers: Sequence[Sequence[nn.Conv2d]], side: int) -> list[Tensor]:
    """Convolved rows [k*k, E, C], one tensor per size of kernel, each with E experts' layers and without biases."""
    kernels = [each[0].weight if len(each) == 1 else torch.cat([layer.weight for layer in each]) for each in layers]
    convolved = depthwise([each.flatten(1) for each in rows], kernels, side)
    return [each.reshape(before.shape) for each, before in zip(convolved, rows, strict=True)]


def _each_mixed(rows: Sequence[Tensor], layers: Sequence[Sequence[nn.Conv2d]]) -> list[Tensor]:
    """Rows [k*k, E, C], one tensor per branch, each through the pointwise convolution of its branch and expert."""
    weights = [[layer.weight.flatten(1) for layer in each] for each in layers]
    if len(weights[0]) == 1:
        return [each @ weight.mT for each, (weight,) in zip(rows, weights, strict=True)]
    mixed = by_its_own(torch.cat(list(rows), dim=1).transpose(0, 1), torch.stack([w for each in weights for w in each]))
    return list(mixed.transpose(0, 1).chunk(len(rows), dim=1))


class MPAMIL(nn.Module):
    """Slide feature [hidden] and raw attention scores [k*k] of patches [N, D], k = ceil(sqrt N).

    Copies of the first k*k - N embedded patches are appended to fill the square. They count again in the pooling, unless
    `mask_duplicates`.

    Parameters
    ----------
    in_features, hidden, attention : D, width of the embedding, width of the attention's branches.
    dropout, attention_dropout : on the embedding (0.1 in the code) and on both attention branches.
    mask_duplicates : leave the copies out of the attention; neither paper nor code does.
    position_encoding : add the depthwise 3 × 3 convolution; the code has one, the paper has none.
    layer_norm : normalise before the aggregator; the code does, the paper does not.
    residual : add the aggregator's input to its output; the code does, the paper does not.
    activate_identity : see `Aggregator`.
    dead_layer : also own the Linear hidden -> 4 that the official experts have and never use.
    """

    def __init__(
        self,
        in_features: int,
        *,
        hidden: int,
        attention: int,
        dropout: float = 0.1,
        attention_dropout: float = 0.25,
        mask_duplicates: bool = False,
        position_encoding: bool = True,
        layer_norm: bool = True,
        residual: bool = True,
        activate_identity: bool = True,
        dead_layer: bool = False,
    ) -> None:
        super().__init__()
        if hidden % SEGMENTS:
            raise UsageError(f"hidden is {hidden}; MP-AMIL needs a multiple of {SEGMENTS}, one quarter a branch.")
        self.mask_duplicates, self.residual = mask_duplicates, residual
        self.embed = Embedding(in_features, hidden, dropout)
        self.position = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden) if position_encoding else None
        self.norm = nn.LayerNorm(hidden) if layer_norm else None
        self.aggregate = Aggregator(hidden, activate_identity=activate_identity)
        self.attention = GatedAttention(hidden, attention, dropout=attention_dropout)
        self.dead = Linear(hidden, DEAD_CLASSES) if dead_layer else None
        xavier(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Slide feature [hidden] and scores [k*k], or [N] where duplicates are masked."""
        h = self.embed(features)                                  # [N, hidden]
        if goes_in_blocks(h, self.attention.dropout, few=FEW) and self._is_usual_after_embedding:
            return pooled_grid(self._parts(), h, self._after_embedding())
        return self.pooled(h)

    def pooled(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Slide feature and scores of embedded patches `h` [N, hidden]; `pooled_grid` does the same for large bags."""
        n, k = len(h), side_of(len(h))
        h = torch.cat([h, h[: k * k - n]])                        # [k*k, hidden]  square; copies share the dropout mask
        if self.position is not None:                             #                code only
            h = self._placed(h, k)
        u = h if self.norm is None else self.norm(h)              # [k*k, hidden]  code only
        aggregated = self.aggregate(u, k)                         # [k*k, hidden]  split, convolve, concatenate
        r = h + aggregated if self.residual else aggregated       # [k*k, hidden]  code only
        r = r[:n] if self.mask_duplicates else r                  # [k*k, hidden]  or [N, hidden]
        if goes_fused(r, self.attention.dropout) and self.attention.is_usual:
            slides, of_all = fused_pooling([self.attention], r[None])
            return slides[0], of_all[0]
        scores = self.attention(r)                                # [k*k]          gated attention
        return weighted_sum(scores.softmax(dim=0), r), scores     # [hidden]       pool

    def _placed(self, h: Tensor, side: int) -> Tensor:
        """Rows [k*k, hidden] of a grid with their position encoding."""
        position: Any = self.position
        if not is_usual(position, POSITION):
            return h + on_grid(position, h, side)
        return h + depthwise([h], [position.weight], side)[0] + position.bias  # type: ignore[no-any-return]

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take this one's place."""
        around = [kind for name, kind in (("position", POSITION), ("norm", nn.LayerNorm)) if self._modules.get(name) is not None]
        dead = () if self._modules.get("dead") is None else (Linear,)
        return is_made_of(self, MPAMIL, *EMBEDDING, *around, *AGGREGATOR, *ATTENTION, *dead)

    @property
    def _is_usual_after_embedding(self) -> bool:
        has_place = self.position is None or is_usual(self.position, POSITION)
        has_norm = self.norm is None or is_usual(self.norm, nn.LayerNorm)
        return has_place and has_norm and self.aggregate.is_usual and self.attention.is_usual

    @property
    def has_all_parts(self) -> bool:
        """Whether it has the parts that the code has."""
        return self.residual and self.aggregate.activate_identity and self.position is not None and self.norm is not None

    def _after_embedding(self) -> Parameters:
        branches: list[Any] = list(self.aggregate.branches)
        around: list[Any] = [self.position, self.norm]
        inside: list[Any] = [self.attention.tanh_branch, self.attention.sigmoid_branch, self.attention.score]
        weights: list[Any] = [  # of the layers, not by name: a parametrised layer has its weight under another one
            *(None if layer is None else getattr(layer, kind) for layer in around for kind in ("weight", "bias")),
            *(branch[layer].weight for layer in (0, 1) for branch in branches),
            *(getattr(layer, kind) for layer in inside for kind in ("weight", "bias")),
        ]
        return Parameters(*weights)

    def _parts(self) -> Parts:
        eps = self.norm.eps if self.norm is not None else 0.0
        return Parts(
            self.attention.dropout, eps, self.mask_duplicates, self.residual, self.aggregate.activate_identity,
        )  # fmt: skip

    numbers_side_by_side = 2**18
    """As in `AttentionExpert`. An expert enters five times as many operations."""

    def n_scored(self, n_patches: int) -> int:
        """Number of scores of a bag."""
        return n_patches if self.mask_duplicates else side_of(n_patches) ** 2

    @staticmethod
    def of_all(experts: Sequence[MPAMIL], features: Tensor, masks: Masks = DRAWN) -> tuple[Tensor, Tensor]:
        """Slide features [E, hidden] and scores [E, k*k] or [E, N] of E experts: `forward` of each, in shared products."""
        one, n, k = experts[0], len(features), side_of(len(features))
        pools_all = len(experts) > 1 and (n == k * k or not one.mask_duplicates)  # one expert is `forward`, to the bit
        if pools_all and one.has_all_parts and _goes_as_matrices(experts, k) and is_small(features, one.embed, one.attention):
            return _as_small_experts(experts, features, k)
        h = Embedding.of_all([expert.embed for expert in experts], features, masks.embed)  # [N, E, hidden]
        h = torch.cat([h, h[: k * k - n]])                         # [k*k, E, hidden]; copies share the dropout mask
        positions = [expert.position for expert in experts if expert.position is not None]
        if positions:
            (around,) = _each_convolved([h], [positions], k)
            h = h + around + torch.stack([each.bias for each in positions if each.bias is not None])
        norms = [expert.norm for expert in experts if expert.norm is not None]
        u = layer_norm_on_own_rows(norms, h) if norms else h       # [k*k, E, hidden]
        aggregated = of_each([expert.aggregate for expert in experts], u, k, dim=1)
        r = h + aggregated if one.residual else aggregated         # [k*k, E, hidden]
        r = (r[:n] if one.mask_duplicates else r).transpose(0, 1)  # [E, k*k, hidden], or [E, N, hidden]
        return gated_pooling([expert.attention for expert in experts], r, masks.attention)


def _goes_as_matrices(experts: Sequence[MPAMIL], side: int) -> bool:
    """Whether convolutions of a grid of `side` k are matrices: small ones of one bag, and larger ones of many, which share them."""
    if torch._C._are_functorch_transforms_active():
        return side**2 <= CELLS_OF_A_MATRIX
    quarter = experts[0].norm.normalized_shape[0] // SEGMENTS  # type: ignore[union-attr]
    return goes_as_matrices(len(experts) * quarter * KERNELS[-1] ** 2, side**2)


def _as_small_experts(experts: Sequence[MPAMIL], features: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """`MPAMIL.of_all` of small bags."""
    stacks = [torch.stack(each) for each in zip(*(_of_grid(expert) for expert in experts), strict=True)]
    return pooled_small([(each.embed, each.attention) for each in experts], features, GridParameters(*stacks), side, experts[0].norm.eps)  # type: ignore[union-attr, arg-type]


def _of_grid(expert: Any) -> list[Tensor]:
    """Parameters in the order of `GridParameters`."""
    layers, branches = (expert.position, expert.norm), expert.aggregate.branches
    kernels, mixes = [branch[0].weight for branch in branches], [branch[1].weight.flatten(1) for branch in branches]
    return [*(parameter for layer in layers for parameter in (layer.weight, layer.bias)), *kernels, *mixes]


def mixed_maps(output: BagOutput, gates: Tensor, experts: tuple[str, ...], outputs: Outputs) -> AttentionMaps:
    """Maps [R, N] of a mixture: per task the experts' attention [E, N], weighted by `gates` [T, E] and summed.

    The classes of a task share its gate, so they share its map.
    """
    attention, gates = output.attention.detach(), gates.detach()  # type: ignore[union-attr]  # mixtures have one
    maps = (gates @ attention)[[task for task, _ in outputs.maps]]  # [R, N]
    return AttentionMaps(
        "gate-weighted softmax attention", maps, output.logits.detach(), is_distribution=True,
        per_expert=attention, experts=experts, gates=gates,
    )  # fmt: skip


def official_names(ours: str, official: str, *, dead_layer: bool) -> dict[str, str]:
    """Our prefix of every official prefix of one expert."""
    names = {
        f"{official}fc.0": f"{ours}embed.0",
        f"{official}cpe.proj": f"{ours}position",
        f"{official}norm1": f"{ours}norm",
        f"{official}attention_net.attention_a.0": f"{ours}attention.tanh_branch",
        f"{official}attention_net.attention_b.0": f"{ours}attention.sigmoid_branch",
        f"{official}attention_net.attention_c": f"{ours}attention.score",
    }
    for i in range(len(KERNELS)):
        names[f"{official}hierarchical.agg{i + 1}.conv1"] = f"{ours}aggregate.branches.{i}.0"
        names[f"{official}hierarchical.agg{i + 1}.pointwise_conv"] = f"{ours}aggregate.branches.{i}.1"
    return {**names, f"{official}classifier": f"{ours}dead"} if dead_layer else names
