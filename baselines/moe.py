"""MoE+AMIL: experts shared by all tasks and mixed by one gate, one tower per task.

paper    Jacobs, Jordan, Nowlan, Hinton, "Adaptive Mixtures of Local Experts", Neural Computation 3, 1991
code     shenweichen/DeepCTR-Torch@f685425, `MMOE` with one gate for all tasks, on plain vectors; there is no official code
         for bags of patches
differs  the experts are MMoE+AMIL's and not DNNs; the gate reads the mean patch
         the gate is one Linear with a bias, as in MMoE+AMIL here; the official has a hidden layer and no bias
         the towers have dropout, as MMoE's; the official default is none
         weights are drawn as MMoE's; the official DNNs draw from a normal distribution of deviation 1e-4
         outputs logits; the official returns probabilities, and the loss is the same
         the official recipe is M4's, because there is none for bags
map      per expert its softmax attention; for every task the same sum over the experts, sum_e g_e a_e, which sums to 1
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from milbench.endpoints.endpoint import KINDS
from milbench.models import AttentionMaps, BagOutput, MILModel, Sharing, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers import deepctr
from milbench_baselines.layers.attention_expert import AttentionExpert
from milbench_baselines.layers.checkpoint import shape_of
from milbench_baselines.layers.dense import DenseExpert
from milbench_baselines.layers.experts import of_experts
from milbench_baselines.layers.gates import Gates
from milbench_baselines.layers.mp_amil import mixed_maps
from milbench_baselines.layers.study_trainer import STUDY_TRAINER
from milbench_baselines.layers.tower import logits_of, of_tasks


class MoE(MILModel):
    """Mixture of E experts, each with a slide feature M_e, with one gate for all tasks and one tower per task.

    ::

        g = softmax over e of W mean_n x_n + b      (1)
        z = sum_e g_e M_e                           (2)
        logits_t = tower_t(z)                       (3)

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of T tasks.
    experts : modules that return a slide feature [hidden] and raw scores [N].
    hidden : width of the experts' slide features.
    tower, tower_dropout : width and dropout of a task's tower.
    gate_hidden : width of a ReLU layer in the gate; 0 = none.
    """

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
        self.gates = Gates(in_features, len(experts), 1, hidden=gate_hidden)
        self.towers = of_tasks(self.outputs, hidden, tower, tower_dropout)

    def forward(self, features: Tensor) -> BagOutput:
        m, raw = of_experts(self.experts, features)                       # [E, hidden], [E, N]
        mean = features.mean(dim=0)                                       # [D]
        g = self.gates(mean)                                              # [1, E]       (1)
        z = g @ m                                                         # [1, hidden]  (2)
        logits = logits_of(self.towers, z.expand(self.n_tasks, -1))       # [W]          (3)
        attention = raw.softmax(dim=1)                                    # [E, N]
        return BagOutput(logits, attention, {"gates": g.expand(self.n_tasks, -1), "experts": m, "scores": raw})

    def attention_rows(self) -> tuple[str, ...]:
        """One row per expert."""
        return tuple(f"expert {e + 1}" for e in range(len(self.experts)))

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Maps sum_e g_e a_e, the same for every task and class; a_e per expert."""
        output = self(features)
        return mixed_maps(output, output.aux["gates"], self.attention_rows(), self.outputs)


def from_official(state_dict: Mapping[str, Tensor]) -> MoE:
    """MoE on the mean patch, in eval mode, with the weights of an official `MMOE` of binary tasks and one gate."""
    n_tasks, width = deepctr.n_tasks(state_dict), deepctr.tower_width(state_dict)
    sizes, n_experts = deepctr.widths(state_dict, "expert_dnn.0"), deepctr.count(state_dict, "expert_dnn")
    gate = "gate_dnn.0.linears.0.weight"
    hidden = shape_of(state_dict, gate)[0] if gate in state_dict else 0
    experts = nn.ModuleList(DenseExpert(*sizes) for _ in range(n_experts))
    model = MoE(
        sizes[0], n_tasks, experts, hidden=sizes[-1], tower=width, tower_dropout=0.0, gate_hidden=hidden
    )
    last = "gate_dnn_final_layer.0"
    names = deepctr.tower_names(n_tasks)
    names |= deepctr.gate_names("gate_dnn.0", last, "gates.0", has_hidden_layer=hidden > 0)
    for e in range(n_experts):
        names |= deepctr.dense_names(f"expert_dnn.{e}", f"experts.{e}.dense", len(sizes) - 1)
    return deepctr.load(model, state_dict, names, gates=[last])


@register_model(
    "moe_amil",
    title="MoE+AMIL",
    tasks="multi",
    paper="Jacobs et al., 1991",
    official="shenweichen/DeepCTR-Torch@f685425",
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
    sharing=Sharing("experts, one gate", step=2, after="shared_bottom_amil"),
)
class MoEAMIL(MoE):
    """MoE whose experts are AMIL's embedding networks, as MMoE+AMIL's.

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of T tasks.
    hidden, attention : widths of an expert's embedding and of its attention's branches.
    experts : E.
    dropout, attention_dropout : on the embedding and on both attention branches.
    tower, tower_dropout : width and dropout of a task's tower.
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
    ) -> None:
        made = nn.ModuleList(
            AttentionExpert(
                in_features, hidden=hidden, attention=attention, dropout=dropout, attention_dropout=attention_dropout
            )
            for _ in range(experts)
        )
        super().__init__(in_features, n_outputs, made, hidden=hidden, tower=tower, tower_dropout=tower_dropout)
