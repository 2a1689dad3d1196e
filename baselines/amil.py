"""AMIL: attention-based multiple-instance learning with a gate.

paper    Ilse, Tomczak, Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018, eq. 7 and 9
code     Bigyehahaha/M4@192a77b, `PorpoiseAMIL` (after mahmoodlab/PORPOISE)
differs  an empty bag is refused (the official returns its bias)
map      the softmax attention a_n, which sums to 1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from milbench.models import AttentionMaps, BagOutput, MILModel, Sharing, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers.attention_expert import AttentionExpert, official_names
from milbench_baselines.layers.checkpoint import load_official, shape_of
from milbench_baselines.layers.initialisation import xavier
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.small_attention import Masks, pooled_stack
from milbench_baselines.layers.small_bags import is_small_stack, together
from milbench_baselines.layers.study_trainer import STUDY_TRAINER
from milbench_baselines.layers.usual import are_linear


@register_model(
    "amil",
    title="AMIL",
    tasks="single",
    study=True,
    paper="Ilse et al., ICML 2018",
    official="Bigyehahaha/M4@192a77b",
    official_recipe=STUDY_TRAINER,
    search_space=SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "attention": TimesOneOf(0.5, 1, 2),
            "dropout": Choice(0.0, 0.1, 0.25, 0.5),
        }
    ),
    sharing=Sharing("nothing", step=0),
)
class AMIL(MILModel):
    r"""Gated-attention pooling of embedded patches (eq. 9 and 7 of the paper).

    .. math::

        h_n &= \mathrm{Dropout}(\mathrm{ReLU}(W x_n + b)) \\
        a_n &= \mathrm{softmax}_n \; w_a^\top \left( \tanh(V h_n) \odot \sigma(U h_n) \right) \\
        M &= \sum_n a_n h_n, \quad \text{logits} = w M + c

    Parameters
    ----------
    in_features, n_outputs : D and W.
    hidden : width of the embedding.
    attention : width of the attention's branches; 256 is the official "small", 384 its "big".
    dropout : on the embedding and on both attention branches.
    """

    def __init__(
        self, in_features: int, n_outputs: int, *, hidden: int = 512, attention: int = 256, dropout: float = 0.25
    ) -> None:
        super().__init__(in_features, n_outputs)
        self.expert = AttentionExpert(
            in_features, hidden=hidden, attention=attention, dropout=dropout, attention_dropout=dropout
        )
        self.head = Linear(hidden, n_outputs)
        xavier(self.head)

    def forward(self, features: Tensor) -> BagOutput:
        slide, scores = self.expert(features)                     # [hidden], [N]  eq. 7 and 9
        attention = scores.softmax(dim=0)                         # [N]
        return BagOutput(self.head(slide), attention[None], {"slide": slide, "scores": scores[None]})

    def of_stack(self, bags: Sequence[Tensor], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor] | None:
        """Losses [S, B] and logits [S, B, W] of stacked models."""
        is_usual = self.expert.is_usual and are_linear(self.head)
        if not is_usual or not self.outputs.all_binary or not is_small_stack(bags, self.head.in_features):
            return None
        (embed, _, dropout), attention = cast(Any, self.expert.embed), self.expert.attention
        x, widths = together(bags), (embed.out_features, attention.tanh_branch.out_features)
        dropouts = dropout, attention.dropout
        masks = [each.masks(len(x), (x.shape[1], width), like=x) for each, width in zip(dropouts, widths, strict=True)]
        slides = pooled_stack(x, embed, attention, Masks(*masks), (dropout.factor, attention.dropout.factor))
        logits = torch.baddbmm(self.head.bias[:, None], slides, self.head.weight.mT)  # [S, B, W]
        return (self.task_losses(logits, targets) * known).sum(dim=-1), logits

    def attention_rows(self) -> tuple[str, ...]:
        """One row."""
        return ("attention",)

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Softmax attention [R, N], the same row for every task and class."""
        output = self(features)
        attention = output.attention.detach().expand(len(self.outputs.maps), -1)  # [R, N]
        return AttentionMaps("softmax attention", attention, output.logits.detach(), is_distribution=True)

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, **options: Any
    ) -> AMIL:
        """Model in eval mode with the weights of an official `PorpoiseAMIL`: one binary task per logit, or `n_outputs`."""
        hidden, in_features = shape_of(state_dict, "attention_net.0.weight")
        attention = shape_of(state_dict, "attention_net.3.attention_a.0.weight")[0]
        outputs = n_outputs or shape_of(state_dict, "classifier.weight")[0]
        model = cls(in_features, outputs, hidden=hidden, attention=attention, **options)
        names = {**official_names("expert.", "", dead_layer=False), "classifier": "head"}
        return load_official(model, state_dict, names)
