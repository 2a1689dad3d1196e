"""MMoE+AMIL and MMoE+MP-AMIL: experts shared by all tasks, mixed by one gate per task.

paper    Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018,
         as used by the M4 paper (Table 3)
code     Bigyehahaha/M4@192a77b, `MMoE`; MMoE+MP-AMIL has no released class: it is `MMoE` with M4's experts
differs  outputs logits; the official returns probabilities, and the loss is the same
         the official experts' unused Linear 512 -> 4 is left out unless `dead_layer`
map      per expert its softmax attention; a copy's attention is added to its patch;
         per task the gate-weighted sum over the experts, sum_e g_te a_e, which sums to 1
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from milbench.models import AttentionMaps, BagOutput, MILModel, Sharing, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers import attention_expert, mp_amil, tower
from milbench_baselines.layers.attention_expert import AttentionExpert
from milbench_baselines.layers.checkpoint import load_official, shape_of
from milbench_baselines.layers.experts import of_experts
from milbench_baselines.layers.gates import Gates
from milbench_baselines.layers.mp_amil import MPAMIL, mixed_maps
from milbench_baselines.layers.small_mixture import is_small, mixed_small
from milbench_baselines.layers.square_grid import folded
from milbench_baselines.layers.study_trainer import STUDY_TRAINER
from milbench_baselines.layers.tower import logits_of, of_tasks

SOURCE: dict[str, Any] = {
    "tasks": "multi", "official": "Bigyehahaha/M4@192a77b", "official_recipe": STUDY_TRAINER, "study": True,
    "search_space": SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "experts": Choice(2, 3, 5, 8),
            "dropout": Choice(0.0, 0.1, 0.25, 0.5),
            "tower_dropout": Choice(0.0, 0.1, 0.25, 0.4),
        }
    ),
}  # fmt: skip


class MMoE(MILModel):
    """Mixture of E experts, each with a slide feature M_e, with one gate and one tower per task.

    ::

        g_t = softmax over e of W_t mean_n x_n + b_t     (1)
        z_t = sum_e g_te M_e                             (2)
        logits_t = tower_t(z_t)                          (3)

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of T tasks.
    experts : modules that return a slide feature [hidden] and raw scores [N] or [k*k].
    hidden : width of the experts' slide features.
    tower, tower_dropout : width and dropout of a task's tower.
    gate_hidden : width of a ReLU layer in every gate, which other code has; 0 = none.
    """

    experts: nn.ModuleList

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        experts: nn.ModuleList,
        *,
        hidden: int,
        tower: int,
        tower_dropout: float,
        gate_hidden: int = 0,
    ) -> None:
        super().__init__(in_features, n_outputs)
        self.experts = experts
        self.gates = Gates(in_features, len(experts), self.n_tasks, hidden=gate_hidden)
        self.towers = of_tasks(self.outputs, hidden, tower, tower_dropout)

    def forward(self, features: Tensor) -> BagOutput:
        m, raw = of_experts(self.experts, features)                       # [E, hidden], [E, N]; MP-AMIL: [E, k*k]
        mean = features.mean(dim=0)                                       # [D]          of the raw, unpadded patches
        if type(self.gates) is Gates and not self.gates.has_hidden_layer and is_small(features, self.towers, self.gates, *self.gates):
            logits, weights = mixed_small(m, mean, self.towers, self.gates)  # type: ignore[arg-type]
            g = weights.squeeze(1)                                        # [T, E]
        else:
            g = self.gates(mean)                                          # [T, E]       (1)
            z = g @ m                                                     # [T, hidden]  (2)
            logits = logits_of(self.towers, z)                            # [W]          (3)
        attention = folded(raw.softmax(dim=1), features.shape[0])     # [E, N]
        return BagOutput(logits, attention, {"gates": g, "experts": m, "scores": raw})

    def attention_rows(self) -> tuple[str, ...]:
        """One row per expert."""
        return tuple(f"expert {e + 1}" for e in range(len(self.experts)))

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Maps sum_e g_te a_e per task, for each of its classes the same; a_e per expert."""
        output = self(features)
        return mixed_maps(output, output.aux["gates"], self.attention_rows(), self.outputs)

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, dead_layer: bool = False, **options: Any
    ) -> Self:
        """Model in eval mode with the weights of an official `MMoE`; its dead layers are left out unless `dead_layer`.

        A tower of one output is a binary task and one of three or more has classes, unless `n_outputs` says what they answer.
        """
        n_experts, in_features = shape_of(state_dict, "gate1.0.0.weight")
        n_tasks = sum(name.startswith("gate1.") and name.endswith("weight") for name in state_dict)
        width, hidden = shape_of(state_dict, "towers.0.fc1.weight")
        attention = shape_of(state_dict, f"specific_experts1.0.{cls.official_attention()}.weight")[0]
        sizes = {"hidden": hidden, "attention": attention, "experts": n_experts, "tower": width}
        outputs = n_outputs or tower.official_outputs(state_dict, n_tasks)
        model = cls(in_features, outputs, **sizes, dead_layer=dead_layer, **options)  # type: ignore[arg-type, call-arg]
        names = tower.official_names(n_tasks) | {f"gate1.{t}.0": f"gates.{t}" for t in range(n_tasks)}
        for e in range(n_experts):
            names |= cls.official_expert(f"experts.{e}.", f"specific_experts1.{e}.", dead_layer=dead_layer)
        kept = dict(state_dict) if dead_layer else tower.without_dead_layers(dict(state_dict))
        return load_official(model, kept, names)

    @staticmethod
    @abstractmethod
    def official_expert(ours: str, official: str, *, dead_layer: bool) -> dict[str, str]:
        """Our prefix of every official prefix of one expert."""

    @staticmethod
    @abstractmethod
    def official_attention() -> str:
        """Official name, inside an expert, of a layer whose shape tells the attention's width."""


@register_model(
    "mmoe_amil", title="MMoE+AMIL", paper="Ma et al., KDD 2018; Li et al., 2024",
    sharing=Sharing("experts, one gate per task", step=3, after="moe_amil"), **SOURCE,
)  # fmt: skip
class MMoEAMIL(MMoE):
    """MMoE whose experts are AMIL's embedding networks.

    Arguments as in `MMoE` and `AttentionExpert`; `experts` is E. Their attention is 128 wide, half of single-task AMIL's.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        attention: int = 128,
        experts: int = 5,
        dropout: float = 0.25,
        attention_dropout: float = 0.25,
        tower: int = 32,
        tower_dropout: float = 0.4,
        dead_layer: bool = False,
    ) -> None:
        made = nn.ModuleList(
            AttentionExpert(
                in_features, hidden=hidden, attention=attention, dropout=dropout,
                attention_dropout=attention_dropout, dead_layer=dead_layer,
            )
            for _ in range(experts)
        )  # fmt: skip
        super().__init__(in_features, n_outputs, made, hidden=hidden, tower=tower, tower_dropout=tower_dropout)

    @staticmethod
    def official_expert(ours: str, official: str, *, dead_layer: bool) -> dict[str, str]:
        """Our prefix of every official prefix of one expert."""
        return attention_expert.official_names(ours, official, dead_layer=dead_layer)

    @staticmethod
    def official_attention() -> str:
        """Name of the first attention branch of an AMIL expert."""
        return "attention_net.3.attention_a.0"


@register_model(
    "mmoe_mp_amil", title="MMoE+MP-AMIL", paper="Li et al., 2024, Table 3", order_matters=True,
    sharing=Sharing("MP-AMIL experts, one gate per task", step=5, after="mmoe_amil"), **SOURCE,
)  # fmt: skip
class MMoEMPAMIL(MMoE):
    """MMoE whose experts are M4's. Arguments as in `MMoE` and `MPAMIL`; `experts` is E."""

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
        mask_duplicates: bool = False,
        dead_layer: bool = False,
    ) -> None:
        made = nn.ModuleList(
            MPAMIL(
                in_features, hidden=hidden, attention=attention, dropout=dropout, attention_dropout=attention_dropout,
                mask_duplicates=mask_duplicates, dead_layer=dead_layer,
            )
            for _ in range(experts)
        )  # fmt: skip
        super().__init__(in_features, n_outputs, made, hidden=hidden, tower=tower, tower_dropout=tower_dropout)

    @staticmethod
    def official_expert(ours: str, official: str, *, dead_layer: bool) -> dict[str, str]:
        """Our prefix of every official prefix of one expert."""
        return mp_amil.official_names(ours, official, dead_layer=dead_layer)

    @staticmethod
    def official_attention() -> str:
        """Name of the first attention branch of an MP-AMIL expert."""
        return "attention_net.attention_a.0"
