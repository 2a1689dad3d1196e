"""Shared bottom+AMIL: one AMIL trunk for all tasks, one tower per task. What is called hard parameter sharing.

paper    Caruana, "Multitask Learning", Machine Learning 28, 1997
code     shenweichen/DeepCTR-Torch@f685425, `SharedBottom`, on plain vectors; there is no official code for bags of patches
differs  the trunk is an expert of MMoE+AMIL and not a DNN, so the model is MoE+AMIL with one expert
         the towers have dropout, as MMoE's; the official default is none
         weights are drawn as MMoE's; the official DNNs draw from a normal distribution of deviation 1e-4
         outputs logits; the official returns probabilities, and the loss is the same
         the official recipe is M4's, because there is none for bags
map      the trunk's softmax attention, which sums to 1: the same row for every task
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from milbench.endpoints.endpoint import KINDS
from milbench.models import AttentionMaps, BagOutput, MILModel, Sharing, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers import deepctr
from milbench_baselines.layers.attention_expert import AttentionExpert
from milbench_baselines.layers.dense import DenseExpert
from milbench_baselines.layers.study_trainer import STUDY_TRAINER
from milbench_baselines.layers.tower import logits_of, of_tasks


class SharedBottom(MILModel):
    """One trunk with a slide feature M, and one tower per task.

    ::

        logits_t = tower_t(M)

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of T tasks.
    trunk : module that returns a slide feature [hidden] and raw scores [N].
    hidden : width of the trunk's slide feature.
    tower, tower_dropout : width and dropout of a task's tower.
    """

    def __init__(
        self, in_features: int, n_outputs: int, trunk: nn.Module, *, hidden: int, tower: int, tower_dropout: float
    ) -> None:
        super().__init__(in_features, n_outputs)
        self.trunk = trunk
        self.towers = of_tasks(self.outputs, hidden, tower, tower_dropout)

    def forward(self, features: Tensor) -> BagOutput:
        m, raw = self.trunk(features)                                     # [hidden], [N]
        logits = logits_of(self.towers, m.expand(self.n_tasks, -1))       # [W]
        attention = raw.softmax(dim=0)                                    # [N]
        return BagOutput(logits, attention[None], {"slide": m, "scores": raw[None]})

    def attention_rows(self) -> tuple[str, ...]:
        """One row."""
        return ("attention",)

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Softmax attention [R, N], the same row for every task and class."""
        output = self(features)
        attention = output.attention.detach().expand(len(self.outputs.maps), -1)  # [R, N]
        return AttentionMaps("softmax attention", attention, output.logits.detach(), is_distribution=True)


def from_official(state_dict: Mapping[str, Tensor]) -> SharedBottom:
    """Shared bottom on the mean patch, in eval mode, with the weights of an official `SharedBottom` of binary tasks."""
    n_tasks, width = deepctr.n_tasks(state_dict), deepctr.tower_width(state_dict)
    sizes = deepctr.widths(state_dict, "bottom_dnn")
    trunk = DenseExpert(*sizes)
    model = SharedBottom(sizes[0], n_tasks, trunk, hidden=sizes[-1], tower=width, tower_dropout=0.0)
    names = deepctr.tower_names(n_tasks) | deepctr.dense_names("bottom_dnn", "trunk.dense", len(sizes) - 1)
    return deepctr.load(model, state_dict, names, gates=())


@register_model(
    "shared_bottom_amil",
    title="Shared bottom+AMIL",
    tasks="multi",
    paper="Caruana, Machine Learning 1997",
    official="shenweichen/DeepCTR-Torch@f685425",
    official_recipe=STUDY_TRAINER,
    search_space=SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "dropout": Choice(0.0, 0.1, 0.25, 0.5),
            "tower_dropout": Choice(0.0, 0.1, 0.25, 0.4),
        }
    ),
    kinds=KINDS,
    sharing=Sharing("trunk", step=1, after="amil"),
)
class SharedBottomAMIL(SharedBottom):
    """Shared bottom whose trunk is AMIL's embedding network.

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of T tasks.
    hidden, attention : widths of the trunk's embedding and of its attention's branches.
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
        dropout: float = 0.25,
        attention_dropout: float = 0.25,
        tower: int = 32,
        tower_dropout: float = 0.4,
    ) -> None:
        trunk = AttentionExpert(
            in_features, hidden=hidden, attention=attention, dropout=dropout, attention_dropout=attention_dropout
        )
        super().__init__(in_features, n_outputs, trunk, hidden=hidden, tower=tower, tower_dropout=tower_dropout)
