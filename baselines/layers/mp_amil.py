"""MP-AMIL: AMIL on a square grid of patches, with convolutions of several sizes between embedding and pooling."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn

from milbench.errors import UsageError
from milbench.models import AttentionMaps, BagOutput
from milbench_baselines.layers.attention_expert import DEAD_CLASSES
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.initialisation import xavier

SEGMENTS = 4
"""Consecutive quarters of the channels: one a branch of the aggregator, and one a proxy of M4's gate."""

KERNELS = (3, 5, 7)


def grid_of(rows: Tensor, side: int) -> Tensor:
    """Grid [1, C, k, k] of rows [k*k, C], row-major: a view, "channels last", on which depthwise convolutions are fast."""
    return rows.reshape(side, side, -1).permute(2, 0, 1)[None]


def rows_of(grid: Tensor) -> Tensor:
    """Rows [k*k, C] of a grid [1, C, k, k]."""
    return grid[0].permute(1, 2, 0).flatten(0, 1)


class Aggregator(nn.Module):
    """Grid [1, hidden, k, k] -> the same: a quarter of the channels passes, three are convolved (M4 paper, Alg. 1).

    Branch i = 1, 2, 3: depthwise convolution of kernel 3, 5, 7, then pointwise, no biases. Hardswish on all four
    branches, also on the one that the paper calls identity, unless `activate_identity` is False. The paper's
    strides 2 and 3 could not be concatenated; as in the code all are 1.
    """

    def __init__(self, hidden: int, *, activate_identity: bool = True) -> None:
        super().__init__()
        width = hidden // SEGMENTS
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False),
                nn.Conv2d(width, width, 1, bias=False),
                nn.Hardswish(),
            )
            for kernel in KERNELS
        )
        self.identity = nn.Hardswish() if activate_identity else nn.Identity()

    def forward(self, grid: Tensor) -> Tensor:
        """Aggregated grid [1, hidden, k, k]."""
        first, *others = grid.chunk(SEGMENTS, dim=1)  # four of [1, hidden/4, k, k]
        parts = [branch(part) for branch, part in zip(self.branches, others, strict=True)]
        return torch.cat([self.identity(first), *parts], dim=1)


class MPAMIL(nn.Module):
    """Slide feature [hidden] and raw attention scores [k*k] of patches [N, D], k = ceil(sqrt N).

    The first k*k - N embedded patches are appended to fill the square; they stay in the pooling and count again,
    unless `mask_duplicates`.

    Parameters
    ----------
    in_features, hidden, attention : D, width of the embedding, width of the attention's branches.
    dropout, attention_dropout : on the embedding (0.1 in the code) and on both attention branches.
    mask_duplicates : leave the appended rows out of the attention (not in the paper or code).
    position_encoding : add the depthwise 3 × 3 convolution, which the code has and the paper does not.
    layer_norm : normalise before the aggregator, as the code and not the paper does.
    residual : add the aggregator's input to its output, as the code and not the paper does.
    activate_identity : see `Aggregator`.
    dead_layer : also own the Linear hidden -> 4 that the official experts carry and never use.
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
        self.embed = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), Dropout(dropout))
        self.position = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden) if position_encoding else None
        self.norm = nn.LayerNorm(hidden) if layer_norm else nn.Identity()
        self.aggregate = Aggregator(hidden, activate_identity=activate_identity)
        self.attention = GatedAttention(hidden, attention, dropout=attention_dropout)
        self.dead = nn.Linear(hidden, DEAD_CLASSES) if dead_layer else None
        xavier(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Slide feature [hidden] and scores [k*k], or [N] where duplicates are masked."""
        h = self.embed(features)                                          # [N, hidden]
        n, k = len(features), side_of(len(features))
        h = torch.cat([h, h[: k * k - n]])                                # [k*k, hidden]; copies share the dropout mask
        if self.position is not None:
            h = h + rows_of(self.position(grid_of(h, k)))                 # [k*k, hidden]
        aggregated = rows_of(self.aggregate(grid_of(self.norm(h), k)))    # [k*k, hidden]
        r = h + aggregated if self.residual else aggregated               # [k*k, hidden]
        r = r[:n] if self.mask_duplicates else r
        scores = self.attention(r)                                        # [k*k] or [N]
        return torch.softmax(scores, dim=0) @ r, scores


def side_of(n_patches: int) -> int:
    """Side k of the smallest square that holds `n_patches`."""
    return isqrt(n_patches - 1) + 1


def folded(weights: Tensor, n_patches: int) -> Tensor:
    """Attention [E, N] of weights [E, k*k]: what an appended copy gets is added to its patch."""
    extra = weights.shape[1] - n_patches
    copies = nn.functional.pad(weights[:, n_patches:], (0, n_patches - extra))
    return weights[:, :n_patches] + copies


def mixed_maps(output: BagOutput, gates: Tensor, experts: tuple[str, ...]) -> AttentionMaps:
    """Maps of a mixture: attention [E, N] of the experts, and per task its sum weighted by `gates` [T, E]."""
    attention, gates = output.attention.detach(), gates.detach()  # type: ignore[union-attr]  # mixtures have one
    return AttentionMaps(
        "gate-weighted softmax attention", gates @ attention, output.logits.detach(), is_distribution=True,
        per_expert=attention, experts=experts, gates=gates,
    )  # fmt: skip


def official_names(ours: str, official: str, *, dead_layer: bool) -> dict[str, str]:
    """Official prefix -> ours, of one expert."""
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
