"""M4: multi-proxy, multi-gate mixture of experts.

paper    Li et al., "M4: Multi-Proxy Multi-Gate Mixture of Experts Network for Multiple Instance Learning in
         Histopathology Image Analysis", 2024
code     Bigyehahaha/M4@192a77b, `M4`
differs  outputs logits; the official returns probabilities, and the loss is the same
         works in every float type; the official code in float32 alone
         the official experts' unused Linear 512 -> 4 is left out unless `dead_layer`
         where paper and code disagree the code is the default; the options below say which is which
map      per expert its softmax attention; a copy's attention is added to its patch;
         per task and segment the gate-weighted sum over the experts, averaged over the four segments:
         1/4 sum_j sum_e G_t[j, e] a_e, which sums to 1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from milbench.endpoints.endpoint import KINDS
from milbench.models import AttentionMaps, BagOutput, MILModel, Sharing, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers import mp_amil, tower
from milbench_baselines.layers.checkpoint import load_official, shape_of
from milbench_baselines.layers.experts import of_experts
from milbench_baselines.layers.mp_amil import MPAMIL, SEGMENTS, mixed_maps
from milbench_baselines.layers.options import one_of
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.side_by_side import linear_on_row, weights_and_biases
from milbench_baselines.layers.small_mixture import is_small, mixed_small
from milbench_baselines.layers.square_grid import folded
from milbench_baselines.layers.study_trainer import STUDY_TRAINER
from milbench_baselines.layers.tower import logits_of, of_tasks
from milbench_baselines.layers.usual import are_linear

Gate = Literal["shared", "per_task"]
Reduction = Literal["sum", "mean"]


@register_model(
    "m4",
    title="M4",
    tasks="multi",
    study=True,
    paper="Li et al., 2024",
    official="Bigyehahaha/M4@192a77b",
    order_matters=True,
    official_recipe=STUDY_TRAINER,
    search_space=SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "experts": Choice(2, 3, 5, 8),
            "dropout": Choice(0.0, 0.1, 0.25, 0.5),
            "tower_dropout": Choice(0.0, 0.1, 0.25, 0.4),
        }
    ),
    kinds=KINDS,
    learns_cox=True,
    sharing=Sharing("MP-AMIL experts, four gates per task", step=6, after="mmoe_mp_amil"),
)
class M4(MILModel):
    r"""Mixture of E experts, each with a slide feature M_e, with one gate per task and quarter of the channels.

    The gate looks at four proxies q_j of the slide, the quarters of q. All four share W_t (eq. 10, 12 and 13 of the paper).

    .. math::

        q &= \mathrm{ReLU} \left( W \, \tfrac{1}{N} \sum_n x_n + b \right) \\
        G_t[j] &= \mathrm{softmax}_e \left( W_t q_j + b_t \right) \\
        z_t[j] &= \sum_e G_t[j, e] \, M_e[j], \quad \text{logits}_t = \mathrm{tower}_t(z_t)

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of T tasks.
    hidden : width of embedding and gate; a multiple of 4.
    attention : width of the experts' attention branches.
    experts : E.
    dropout, attention_dropout, tower_dropout : on the experts' embedding, on their attention and in the towers. The
        defaults are the code's; the paper states none.
    tower : width of a task's tower.
    gate : first gate layer, "shared" by all tasks (code) or "per_task" (paper, eq. 10).
    loss_over_tasks : "sum" (code) or "mean" (paper, eq. 16).
    mask_duplicates : leave the copies that fill the square out of the attention; neither paper nor code does.
    position_encoding, layer_norm, residual, activate_identity : parts that the code has and the paper's Algorithm 1
        does not have. False removes them, for ablations.
    dead_layer : keep the official experts' unused layer. Parameter count and same-seed initialisation are then exactly
        the official ones.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        attention: int = 128,
        experts: int = 5,
        dropout: float = 0.1,
        attention_dropout: float = 0.25,
        tower: int = 32,
        tower_dropout: float = 0.4,
        gate: Gate = "shared",
        loss_over_tasks: Reduction = "sum",
        mask_duplicates: bool = False,
        position_encoding: bool = True,
        layer_norm: bool = True,
        residual: bool = True,
        activate_identity: bool = True,
        dead_layer: bool = False,
    ) -> None:
        super().__init__(in_features, n_outputs)
        self.loss_over_tasks = one_of(Reduction, loss_over_tasks=loss_over_tasks)
        n_first = 1 if one_of(Gate, gate=gate) == "shared" else self.n_tasks
        self.experts = nn.ModuleList(
            MPAMIL(
                in_features, hidden=hidden, attention=attention, dropout=dropout, attention_dropout=attention_dropout,
                mask_duplicates=mask_duplicates, position_encoding=position_encoding, layer_norm=layer_norm,
                residual=residual, activate_identity=activate_identity, dead_layer=dead_layer,
            )
            for _ in range(experts)
        )  # fmt: skip
        self.gate_first = nn.ModuleList(Linear(in_features, hidden) for _ in range(n_first))
        self.gate_second = nn.ModuleList(Linear(hidden // SEGMENTS, experts) for _ in range(self.n_tasks))
        self.towers = of_tasks(self.outputs, hidden, tower, tower_dropout)

    def forward(self, features: Tensor) -> BagOutput:
        m, raw = of_experts(self.experts, features)               # [E, hidden], [E, k*k]           Alg. 1
        mean = features.mean(dim=0)                               # [D]          of the raw, unpadded patches
        is_usual = len(self.gate_first) == 1 and type(self).gates is M4.gates
        if is_usual and is_small(features, self.towers, *self.gate_first, *self.gate_second):
            logits, g = mixed_small(m, mean, self.towers, self.gate_second, self.gate_first[0], SEGMENTS)  # type: ignore[arg-type]
        else:
            g = self.gates(mean)                                  # [T, 4, E]                       eq. 12
            segments = m.reshape(len(m), SEGMENTS, -1)            # [E, 4, hidden/4]
            z = (g.transpose(0, 1) @ segments.transpose(0, 1)).transpose(0, 1).flatten(1)  # [T, hidden]  eq. 13
            logits = logits_of(self.towers, z)                    # [W]
        attention = folded(raw.softmax(dim=1), features.shape[0])     # [E, N]
        return BagOutput(logits, attention, {"gates": g, "experts": m, "scores": raw})

    def gates(self, mean: Tensor) -> Tensor:
        """Gate weights [T, 4, E] of the mean patch [D]."""
        proxies = linear_on_row(self.gate_first, mean).relu()     # [1 or T, hidden]                 eq. 10
        q = proxies.reshape(len(proxies), SEGMENTS, -1)           # [1 or T, 4, hidden/4]
        if not are_linear(*self.gate_second):
            each = zip(self.gate_second, q.expand(self.n_tasks, -1, -1), strict=True)
            return torch.stack([gate(own) for gate, own in each]).softmax(dim=-1)
        weight, bias = weights_and_biases(self.gate_second)       # [T, E, hidden/4], [T, E]
        return (q @ weight.mT + bias[:, None]).softmax(dim=-1)    # [T, 4, E]                        eq. 12

    def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
        """Sum or mean over the known tasks of their losses, a scalar."""
        total = super().loss(output, targets, known)
        return total if self.loss_over_tasks == "sum" else total / (known > 0).sum().clamp(min=1)

    def attention_rows(self) -> tuple[str, ...]:
        """One row per expert."""
        return tuple(f"expert {e + 1}" for e in range(len(self.experts)))

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Maps 1/4 sum_j sum_e G_t[j, e] a_e per task, for each of its classes the same; a_e per expert."""
        output = self(features)
        return mixed_maps(output, output.aux["gates"].mean(dim=1), self.attention_rows(), self.outputs)

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, dead_layer: bool = False, **options: Any
    ) -> M4:
        """Model in eval mode with the weights of an official `M4`; its dead layers are left out unless `dead_layer`.

        A tower of one output is a binary task and one of three or more has classes, unless `n_outputs` says what they answer.
        """
        hidden, in_features = shape_of(state_dict, "gate1_fc1.0.weight")
        experts = shape_of(state_dict, "gate1_fc2.0.0.weight")[0]
        n_tasks = sum(name.startswith("gate1_fc2.") and name.endswith("weight") for name in state_dict)
        attention = shape_of(state_dict, "experts.0.attention_net.attention_a.0.weight")[0]
        sizes = {"hidden": hidden, "attention": attention, "experts": experts}
        sizes["tower"] = shape_of(state_dict, "towers.0.fc1.weight")[0]
        outputs = n_outputs or tower.official_outputs(state_dict, n_tasks)
        model = cls(in_features, outputs, **sizes, dead_layer=dead_layer, **options)  # type: ignore[arg-type]
        names = tower.official_names(n_tasks) | {"gate1_fc1.0": "gate_first.0"}
        names |= {f"gate1_fc2.{t}.0": f"gate_second.{t}" for t in range(n_tasks)}
        for e in range(experts):
            names |= mp_amil.official_names(f"experts.{e}.", f"experts.{e}.", dead_layer=dead_layer)
        kept = dict(state_dict) if dead_layer else tower.without_dead_layers(dict(state_dict))
        return load_official(model, kept, names)
