"""RRT-MIL: patches attend inside square regions, then regions attend to each other, then attention pools the bag.

paper    Tang et al., "Feature re-embedding: towards foundation model-level performance in computational pathology",
         CVPR 2024
code     DearCaat/RRT-MIL@7ecbdfb; defaults of its class, but tanh in the pooling as in all its README commands
differs  any width and number of heads (official: 512 and 8)
         a binary task's logit is the difference of the official two, so BCE on it is their cross-entropy
         EPEG convolves queries instead of scores, which is the same: the scores of a key are linear in the queries
         all epochs are trained, and the epoch is chosen on validation slides; the official code stops early, and its commands
           choose on the test slides
         no scores are kept: the backward computes the regions' attention again, in chunks of regions
small    up to 64 patches every region holds one. Then CR-MSA adds exactly nothing, EPEG changes nothing, and patches do
         not interact
kinds    the head has W logits, of C classes the official C
map      the pooling's softmax attention over the patches, which sums to 1; it weighs rows that both layers have made
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from milbench.errors import UsageError
from milbench.models import AttentionMaps, BagOutput, MILModel, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers.checkpoint import load_official, outputs_of_classes, shape_of
from milbench_baselines.layers.depthwise import along
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.options import refuse_uneven_heads
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.row_chunks import float32_or_wider, of_row_chunks
from milbench_baselines.layers.square_grid import side_of
from milbench_baselines.layers.two_class import answer_of, head_width, refuse_several_tasks

CRMSA_REGIONS = 8
"""Regions per side of CR-MSA, whatever `regions` says: the official code does not pass its number on."""

OFFICIAL_RECIPE = {
    "optimizer": "adam",
    "lr": 2e-4,
    "weight_decay": 1e-5,
    "schedule": "cosine",
    "lr_floor": 0.0,
    "epochs": 200,  # official: ends after 30 (20) epochs without improvement, from epoch 130 (70) on; milbench goes on
    "bags_per_step": 1,
    "select_by": "val_auroc",  # official commands hold out no validation slides: their epoch is the best of the test slides
}


class RegionAttention(nn.Module):
    """R-MSA: rows [g, n, H] of g regions, each of whose rows attends to its region.

    With EPEG the scores q_i . k_j / sqrt(d) of a key j, in the order of i, have their convolution along i added. Its
    bias shifts all scores of a query alike, so softmax does not see it.

    Parameters
    ----------
    width, heads : H, a multiple of `heads`.
    epeg : length of the kernels, one per head, odd; None for none.
    dropout : after the output Linear.
    """

    def __init__(self, width: int, heads: int, *, epeg: int | None, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.epeg = nn.Conv2d(heads, heads, (epeg, 1), padding=(epeg // 2, 0), groups=heads) if epeg else None
        self.out = nn.Sequential(Linear(width, width), Dropout(dropout))

    def forward(self, rows: Tensor) -> Tensor:
        """Results [g, n, H]."""
        q, k, v = self.qkv(rows).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [g, heads, n, d] each
        if self.epeg is not None:
            q = q + convolved(q, self.epeg)                               # [g, heads, n, d]
        per_region = self.heads * max(rows.shape[1] ** 2, rows.shape[1] * q.shape[-1])
        mixed = of_row_chunks(attend, (q.to(v.dtype), k, v), entries_per_row=per_region)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def convolved(q: Tensor, epeg: nn.Conv2d) -> Tensor:
    """Queries [g, heads, n, d], convolved along n with the kernel of their head; zeros around a region."""
    kernel = epeg.weight[:, 0, :, 0] + 0 * cast(Tensor, epeg.bias)[:, None]  # [heads, epeg]; the bias has a zero gradient, no missing one
    by_head = q.permute(1, 2, 0, 3)                                       # [heads, n, g, d]
    out = along(by_head.flatten(2), kernel, slice(0, q.shape[2]))         # [heads, n, g d]
    return out.reshape(by_head.shape).permute(2, 0, 1, 3)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention [..., n, d] of queries, keys and values [..., n, d]."""
    scores = float32_or_wider((q * q.shape[-1] ** -0.5) @ k.mT)           # [..., n, n]
    return (scores.softmax(dim=-1).to(v.dtype) @ v).to(v.dtype)


class CrossRegionAttention(nn.Module):
    """CR-MSA: rows [g, n, H] of g regions that speak through k representatives per region.

    ::

        G = rows Phi, or Linear(tanh(Linear(rows))) without biases             [g, n, k]
        m_j = sum over the region's rows of softmax_rows(G_j) row              [g, k, H]
        m_j <- ordinary attention over the g representatives m_j, for each j
        row p gets sum over j of softmax_j(G_pj) (G_pj - min G_j) / (max G_j - min G_j + 1e-8) m_j

    with minimum and maximum over the region's rows. A region of one row gets 0.

    Parameters
    ----------
    width, heads : H, a multiple of `heads`.
    representatives : k.
    mlp : width of the Linear layers that replace Phi; 0 for Phi.
    dropout : after the output Linear.
    """

    def __init__(self, width: int, heads: int, *, representatives: int, mlp: int, dropout: float) -> None:
        super().__init__()
        self.attention = RegionAttention(width, heads, epeg=None, dropout=dropout)
        self.score: nn.Sequential | None = None
        if mlp:
            first, last = Linear(width, mlp, bias=False), Linear(mlp, representatives, bias=False)
            self.score = nn.Sequential(first, nn.Tanh(), last)
        else:
            self.phi = nn.Parameter(torch.empty(width, representatives))
            nn.init.kaiming_uniform_(self.phi, a=5**0.5)

    def forward(self, rows: Tensor) -> Tensor:
        """Results [g, n, H]."""
        g = rows @ self.phi if self.score is None else self.score(rows)   # [g, n, k]
        told: Tensor = g.softmax(dim=1).mT @ rows                         # [g, k, H]
        told = self.attention(told.transpose(0, 1)).transpose(0, 1)       # [g, k, H]   k times among g
        low, high = g.amin(dim=1, keepdim=True), g.amax(dim=1, keepdim=True)  # [g, 1, k]
        share = g.softmax(dim=2) * (g - low) / (high - low + 1e-8)        # [g, n, k]
        back: Tensor = share.to(told.dtype) @ told                        # [g, n, H]
        return back


class RegionLayer(nn.Module):
    """Attention of normalised rows [N, H] by regions, without the residual: `RRTMIL.forward` adds it."""

    def __init__(self, attn: nn.Module, width: int, regions: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = attn
        self.regions = regions

    def forward(self, rows: Tensor) -> Tensor:
        """Results [N, H]. The last regions may hold zero rows, which take part in every attention."""
        r, n = self.regions, len(rows)
        s = -(-side_of(n) // r)                                           # side of a region
        grid = pad(self.norm(rows), (0, 0, 0, (r * s) ** 2 - n))          # [r s r s, H]
        regions = grid.reshape(r, s, r, s, -1).transpose(1, 2).reshape(r * r, s * s, -1)
        out = self.attn(regions).reshape(r, r, s, s, -1).transpose(1, 2)  # [r, s, r, s, H]
        return out.reshape(len(grid), -1)[:n]  # type: ignore[no-any-return]


@register_model(
    "rrt_mil",
    title="RRT-MIL",
    tasks="single",
    paper="Tang et al., CVPR 2024",
    official="DearCaat/RRT-MIL@7ecbdfb",
    order_matters=True,
    official_recipe=OFFICIAL_RECIPE,
    search_space=SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "dropout": Choice(0.0, 0.1, 0.25, 0.5),
            "epeg": Choice(9, 13, 15, 21),
            "crmsa_k": Choice(1, 3, 5),
            "all_shortcut": Choice(True, False),  # noqa: FBT003 - values to choose from
        }
    ),
)
class RRTMIL(MILModel):
    """Two layers of attention by regions of a square, on which the patches lie row by row in their given order.

    ::

        h = Dropout(ReLU(W x + b))                                        (1)
        h1 = h + R-MSA(LayerNorm h)                                       (2)
        h2 = h1 + CR-MSA(LayerNorm h1)                                    (3)
        y = LayerNorm(h2), or LayerNorm(h2 + h) with `all_shortcut`       (4)
        a_n = softmax over n of w . tanh(V y_n)                           (5)
        logits = Linear(sum_n a_n y_n)                                    (6)

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of one task.
    hidden : width of all rows. Official: 512.
    heads : of R-MSA. Official: 8.
    attention : width of V in (5), and of the Linear layers of `crmsa_mlp`. Official: 128.
    dropout : in (1). Official: 0.25.
    attention_dropout : after both attentions, official `trans_dropout`. Official: 0.1.
    regions : regions per side in R-MSA; CR-MSA has 8. Official: 8.
    epeg : length of R-MSA's kernels, odd, or None for none; README commands: 9 to 21.
    crmsa_k : representatives per region; README commands: 1, 3, 5.
    crmsa_heads : of CR-MSA. None: `heads`; README commands: 1 or 8.
    all_shortcut : see (4); README commands: on for C16 and for PLIP features.
    crmsa_mlp : score CR-MSA's rows by two Linear layers; README commands: for PLIP features of TCGA-NSCLC.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        heads: int = 8,
        attention: int = 128,
        dropout: float = 0.25,
        attention_dropout: float = 0.1,
        regions: int = 8,
        epeg: int | None = 15,
        crmsa_k: int = 3,
        crmsa_heads: int | None = None,
        all_shortcut: bool = False,
        crmsa_mlp: bool = False,
    ) -> None:
        super().__init__(in_features, n_outputs)
        refuse_several_tasks("RRT-MIL", self.outputs)
        crmsa_heads = heads if crmsa_heads is None else crmsa_heads
        for count in (heads, crmsa_heads):
            refuse_uneven_heads(hidden, count)
        if epeg and epeg % 2 == 0:
            raise UsageError(f"epeg is {epeg}; expected an odd length, or null for none.")
        self.all_shortcut = all_shortcut
        self.embed = nn.Sequential(Linear(in_features, hidden), nn.ReLU(), Dropout(dropout))
        self.rmsa = RegionLayer(RegionAttention(hidden, heads, epeg=epeg, dropout=attention_dropout), hidden, regions)
        across = CrossRegionAttention(
            hidden, crmsa_heads, representatives=crmsa_k, mlp=attention if crmsa_mlp else 0, dropout=attention_dropout
        )
        self.crmsa = RegionLayer(across, hidden, CRMSA_REGIONS)
        self.norm = nn.LayerNorm(hidden)
        self.attention = nn.Sequential(
            Linear(hidden, attention, bias=False), nn.Tanh(), Linear(attention, 1, bias=False)
        )
        self.head = Linear(hidden, head_width(self.outputs))
        self.apply(_start_xavier)

    def forward(self, features: Tensor) -> BagOutput:
        """Logits [W], pooling attention [1, N]; aux `head_logits`, raw `scores` [1, N], `bag` and the rows between [N, H]."""
        h = self.embed(features)                                          # [N, H]       (1)
        h1 = h + self.rmsa(h)                                             # [N, H]       (2)
        h2 = h1 + self.crmsa(h1)                                          # [N, H]       (3)
        y = self.norm(h2 + h if self.all_shortcut else h2)                # [N, H]       (4)
        scores = self.attention(y).mT                                     # [1, N]
        attention = scores.softmax(dim=1)                                 # [1, N]       (5)
        bag = (attention @ y)[0]                                          # [H]
        head_logits = self.head(bag)                                      # [2] or [W]   (6)
        aux = {"head_logits": head_logits, "scores": scores, "bag": bag, "after_rmsa": h1, "after_crmsa": h2, "rows": y}
        return BagOutput(answer_of(self.outputs, head_logits), attention, aux)

    def attention_rows(self) -> tuple[str, ...]:
        """One row."""
        return ("pooling",)

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Pooling attention [R, N], the same row for every class."""
        output = self(features)
        attention = output.attention.detach().expand(len(self.outputs.maps), -1)
        return AttentionMaps("softmax attention of the pooling", attention, output.logits.detach(), is_distribution=True)

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, **options: Any
    ) -> RRTMIL:
        """Model in eval mode with the weights of an official `RRTMIL` of two layers.

        No tensor shows `regions`, `crmsa_heads` and `all_shortcut`: give them where they are not the defaults. Two classes
        are a binary task and more are classes, unless `n_outputs` says what the logits answer.
        """
        hidden, in_features = shape_of(state_dict, "patch_to_emb.0.weight")
        told: dict[str, Any] = {"hidden": hidden, "epeg": None, "crmsa_mlp": "online_encoder.cr_msa.attn.phi" not in state_dict}
        told["attention"] = shape_of(state_dict, "pool_fn.attention.attention.0.weight")[0]
        if "online_encoder.layers.0.attn.attn.pe.weight" in state_dict:
            told["heads"], _, told["epeg"], _ = shape_of(state_dict, "online_encoder.layers.0.attn.attn.pe.weight")
        phi = "online_encoder.cr_msa.attn.phi"
        told["crmsa_k"] = shape_of(state_dict, f"{phi}.2.weight")[0] if told["crmsa_mlp"] else shape_of(state_dict, phi)[1]
        outputs = n_outputs or outputs_of_classes(shape_of(state_dict, "predictor.weight")[0])
        model = cls(in_features, outputs, **{**told, **options})
        return load_official(model, state_dict, OFFICIAL_NAMES | {phi: f"crmsa.attn.{'score' if told['crmsa_mlp'] else 'phi'}"})


OFFICIAL_NAMES = {
    "patch_to_emb.0": "embed.0",
    "online_encoder.layers.0.norm": "rmsa.norm",
    "online_encoder.layers.0.attn.attn.qkv": "rmsa.attn.qkv",
    "online_encoder.layers.0.attn.attn.proj": "rmsa.attn.out.0",
    "online_encoder.layers.0.attn.attn.pe": "rmsa.attn.epeg",
    "online_encoder.cr_msa.norm": "crmsa.norm",
    "online_encoder.cr_msa.attn.attn.qkv": "crmsa.attn.attention.qkv",
    "online_encoder.cr_msa.attn.attn.proj": "crmsa.attn.attention.out.0",
    "online_encoder.norm": "norm",
    "pool_fn.attention.attention": "attention",
    "predictor": "head",
}


def _start_xavier(layer: nn.Module) -> None:
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        nn.init.xavier_normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
