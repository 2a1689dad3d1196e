"""PLE+AMIL: progressive layered extraction, experts of each task's own beside shared ones, level upon level.

paper    Tang, Liu, Zhao, Gong, "Progressive Layered Extraction (PLE)", RecSys 2020
code     shenweichen/DeepCTR-Torch@f685425, `PLE`, on plain vectors; there is no official code for bags of patches
differs  the first level's experts are MMoE+AMIL's and not DNNs; its gates read the mean patch
         experts of later levels are one Linear and ReLU; the official repeats the first level's DNN
         gates are one Linear with a bias, as in MMoE+AMIL here; the official have a hidden layer and no bias
         the last level's shared gate, which nothing reads, is left out unless `dead_layer`
         the towers have dropout, as MMoE's; the official default is none
         weights are drawn as MMoE's; the official DNNs draw from a normal distribution of deviation 1e-4
         one task works; the official refuses it
         outputs logits; the official returns probabilities, and the loss is the same
         the official recipe is M4's, because there is none for bags
map      per expert of the first level its softmax attention a_e; per task sum_e w_te a_e, which sums to 1;
         w is followed through the levels as if later experts passed on what they read: w = g at the first level, then
         w_t <- sum_e g_te w_r(e), where r(e) is the row that expert e reads (its task's, or the shared one)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from milbench.endpoints.endpoint import KINDS
from milbench.endpoints.outputs import Outputs
from milbench.errors import UsageError
from milbench.models import AttentionMaps, BagOutput, MILModel, Sharing, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers import deepctr
from milbench_baselines.layers.attention_expert import AttentionExpert
from milbench_baselines.layers.checkpoint import shape_of
from milbench_baselines.layers.dense import Dense, DenseExpert
from milbench_baselines.layers.experts import of_experts
from milbench_baselines.layers.gates import Extraction
from milbench_baselines.layers.mp_amil import mixed_maps
from milbench_baselines.layers.study_trainer import STUDY_TRAINER
from milbench_baselines.layers.tower import logits_of, of_tasks


class PLE(MILModel):
    """L levels of S own experts per task and H shared ones, E = T S + H in all, and one tower per task.

    ::

        m = first level's experts of the bag; g = first level's gates of mean_n x_n     (1)
        z = g m, a row per task and one of the shared gate                              (2)
        next level: experts and gates of task t read z_t, the shared ones the last row  (3)
        logits_t = tower_t(z_t of the last level)                                       (4)

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of T tasks.
    experts : E modules of the first level that return a slide feature [hidden] and raw scores [N]. Own experts stand first,
        task by task.
    later : the E `Dense` experts of each further level, in the same order; none is CGC.
    own_experts, shared_experts : S and H.
    hidden : width of the slide features.
    tower, tower_dropout : width and dropout of a task's tower.
    gate_hidden : width of a ReLU layer in every gate; 0 = none.
    dead_layer : keep the last level's shared gate, as the official code does.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        experts: nn.ModuleList,
        later: Sequence[nn.ModuleList],
        *,
        own_experts: int,
        shared_experts: int,
        hidden: int,
        tower: int,
        tower_dropout: float,
        gate_hidden: int = 0,
        dead_layer: bool = False,
    ) -> None:
        super().__init__(in_features, n_outputs)
        self.own_experts, self.shared_experts = own_experts, shared_experts
        self.experts, self.later = experts, nn.ModuleList(later)
        self.gates = nn.ModuleList(
            Extraction(
                hidden if level else in_features, self.n_tasks, own_experts, shared_experts,
                gate_hidden=gate_hidden, shared_gate=dead_layer or level < len(later),
            )
            for level in range(1 + len(later))
        )  # fmt: skip
        self.towers = of_tasks(self.outputs, hidden, tower, tower_dropout)

    def forward(self, features: Tensor) -> BagOutput:
        m, raw = of_experts(self.experts, features)                       # [E, hidden], [E, N]      (1)
        g = self.gates[0](features.mean(dim=0))                           # [T + 1, E]               (1)
        z, w = g @ m, g                                                   # [T + 1, hidden]          (2)
        further: Any = zip(list(self.gates)[1:], self.later, strict=True)
        for gates, experts in further:
            g = gates(z)                                                  # [T + 1, E]               (3)
            w = g @ gates.inputs(w)                                       # [T + 1, E]  weights of the first level's experts
            z = g @ Dense.of_all(experts, gates.inputs(z))                # [T + 1, hidden]          (3)
        z, w = z[: self.n_tasks], w[: self.n_tasks]                       # [T, hidden], [T, E]  without the shared row
        logits = logits_of(self.towers, z)                                # [W]                      (4)
        return BagOutput(logits, raw.softmax(dim=1), {"gates": w, "experts": m, "scores": raw})

    def attention_rows(self) -> tuple[str, ...]:
        """One row per expert of the first level: own experts task by task, then shared ones."""
        own = [f"task {t + 1}, expert {s + 1}" for t in range(self.n_tasks) for s in range(self.own_experts)]
        return (*own, *(f"shared expert {h + 1}" for h in range(self.shared_experts)))

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Maps sum_e w_te a_e per task, for each of its classes the same; a_e per expert of the first level."""
        output = self(features)
        return mixed_maps(output, output.aux["gates"], self.attention_rows(), self.outputs)


def from_official(state_dict: Mapping[str, Tensor], *, dead_layer: bool = False) -> PLE:
    """PLE on the mean patch, in eval mode, with the weights of an official `PLE` of binary tasks.

    Shared experts that the official gates do not weight are left out, and the last shared gate is unless `dead_layer`.
    """
    n_tasks, width = deepctr.n_tasks(state_dict), deepctr.tower_width(state_dict)
    levels, own = deepctr.count(state_dict, "shared_experts"), deepctr.count(state_dict, "specific_experts.0.0")
    shared = shape_of(state_dict, "specific_gate_dnn_final_layer.0.0.weight")[0] - own
    gate = "shared_gate_dnn.0.linears.0.weight"
    gate_hidden = shape_of(state_dict, gate)[0] if gate in state_dict else 0
    sizes = deepctr.widths(state_dict, "shared_experts.0.0.0")
    n_experts = n_tasks * own + shared
    experts = nn.ModuleList(DenseExpert(*sizes) for _ in range(n_experts))
    inner = (sizes[-1], *sizes[1:])
    later = [nn.ModuleList(Dense(*inner) for _ in range(n_experts)) for _ in range(levels - 1)]
    model = PLE(
        sizes[0], n_tasks, experts, later, own_experts=own, shared_experts=shared, hidden=sizes[-1], tower=width,
        tower_dropout=0.0, gate_hidden=gate_hidden, dead_layer=dead_layer,
    )  # fmt: skip
    names, gates = deepctr.tower_names(n_tasks), []
    for level in range(levels):
        for theirs, mine in _experts(level, n_tasks, own, shared).items():
            names |= deepctr.dense_names(theirs, mine, len(sizes) - 1)
        for hidden, last, mine in _gates(level, n_tasks, shared_gate=dead_layer or level < levels - 1):
            names |= deepctr.gate_names(hidden, last, mine, has_hidden_layer=gate_hidden > 0)
            gates.append(last)
    dead = _dead(state_dict, levels, shared, shared_gate=dead_layer)
    kept = {name: tensor for name, tensor in state_dict.items() if not name.startswith(dead)}
    return deepctr.load(model, kept, names, gates)


def _experts(level: int, n_tasks: int, own: int, shared: int) -> dict[str, str]:
    """Our prefix of every official DNN of one level."""
    official = [f"specific_experts.{level}.{t}.{s}" for t in range(n_tasks) for s in range(own)]
    official += [f"shared_experts.{level}.0.{h}" for h in range(shared)]
    ours = [f"later.{level - 1}.{e}" if level else f"experts.{e}.dense" for e in range(len(official))]
    return dict(zip(official, ours, strict=True))


def _dead(state_dict: Mapping[str, Tensor], levels: int, shared: int, *, shared_gate: bool) -> tuple[str, ...]:
    """Beginnings of the official names that have no counterpart here."""
    experts = [
        f"shared_experts.{level}.0.{h}."
        for level in range(levels)
        for h in range(shared, deepctr.count(state_dict, f"shared_experts.{level}.0"))
    ]
    last = levels - 1
    return (*experts, *(() if shared_gate else (f"shared_gate_dnn.{last}.", f"shared_gate_dnn_final_layer.{last}.")))


def _gates(level: int, n_tasks: int, *, shared_gate: bool) -> list[tuple[str, str, str]]:
    """Official hidden layer, official last layer and our prefix of every gate of one level."""
    gates = [
        (
            f"specific_gate_dnn.{level}.{t}.0",
            f"specific_gate_dnn_final_layer.{level}.{t}",
            f"gates.{level}.of_tasks.{t}",
        )
        for t in range(n_tasks)
    ]
    of_all = (f"shared_gate_dnn.{level}", f"shared_gate_dnn_final_layer.{level}", f"gates.{level}.of_all.0")
    return [*gates, of_all] if shared_gate else gates


@register_model(
    "ple_amil",
    title="PLE+AMIL",
    tasks="multi",
    paper="Tang et al., RecSys 2020",
    official="shenweichen/DeepCTR-Torch@f685425",
    official_recipe=STUDY_TRAINER,
    search_space=SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "levels": Choice(1, 2),
            "shared_experts": Choice(1, 2, 5),
            "dropout": Choice(0.0, 0.1, 0.25, 0.5),
            "tower_dropout": Choice(0.0, 0.1, 0.25, 0.4),
        }
    ),
    kinds=KINDS,
    sharing=Sharing("some experts, one gate per task", step=4, after="mmoe_amil"),
)
class PLEAMIL(PLE):
    """PLE whose first level's experts are AMIL's embedding networks, as MMoE+AMIL's.

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of T tasks.
    hidden, attention : widths of an expert's embedding and of its attention's branches.
    levels : L; 1 is CGC, customised gate control. The official default is 2.
    own_experts, shared_experts : S per task, and H. The official defaults are 1 and 1.
    dropout, attention_dropout : on the first level's embedding and on its attention's branches.
    tower, tower_dropout : width and dropout of a task's tower.
    dead_layer : keep the last level's shared gate, which nothing reads.

    Raises
    ------
    UsageError : a number of levels or experts is below 1.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        attention: int = 128,
        levels: int = 2,
        own_experts: int = 1,
        shared_experts: int = 1,
        dropout: float = 0.25,
        attention_dropout: float = 0.25,
        tower: int = 32,
        tower_dropout: float = 0.4,
        dead_layer: bool = False,
    ) -> None:
        for name, value in (("levels", levels), ("own_experts", own_experts), ("shared_experts", shared_experts)):
            if value < 1:
                raise UsageError(f"{name} is {value}; PLE needs at least one.")
        n_experts = Outputs.of(n_outputs).n_tasks * own_experts + shared_experts
        made = nn.ModuleList(
            AttentionExpert(
                in_features, hidden=hidden, attention=attention, dropout=dropout, attention_dropout=attention_dropout
            )
            for _ in range(n_experts)
        )
        later = [nn.ModuleList(Dense(hidden, hidden) for _ in range(n_experts)) for _ in range(levels - 1)]
        super().__init__(
            in_features, n_outputs, made, later, own_experts=own_experts, shared_experts=shared_experts, hidden=hidden,
            tower=tower, tower_dropout=tower_dropout, dead_layer=dead_layer,
        )  # fmt: skip
