"""DSMIL: the bag looks at its critical instance.

paper    Li, Li, Eliceiri, "Dual-stream multiple instance learning network", CVPR 2021
code     binli123/dsmil-wsi@80465ed (`dsmil.py`; recipe of `train_tcga.py`)
differs  scores are divided by sqrt(width) in the model's own precision; the official code uses a float32 root
         `patch_dropout` acts in training only; the official `dropout_patch` also acts in evaluation
         `average_streams` is the mean of the two probabilities; the official trainer's `--average` is their sum
map      the bag stream's attention A_c of (3), which sums to 1; alternative: the instance logits s_c of (1)
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from milbench.models import AttentionMaps, BagOutput, MILModel, register_model
from milbench_baselines.layers.averaging import logit_of_mean_probability
from milbench_baselines.layers.checkpoint import load_official, shape_of
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.options import one_of

Init = Literal["default", "orthogonal"]

OFFICIAL_RECIPE = {
    "optimizer": "adam",
    "lr": 1e-4,
    "betas": (0.5, 0.9),
    "weight_decay": 1e-3,
    "schedule": "cosine",
    "lr_floor": 0.05,  # CosineAnnealingLR down to 5e-6
    "epochs": 50,
    "patience": 10,
    "model": {"init": "orthogonal"},
}

OFFICIAL_NAMES = {
    "i_classifier.fc.0": "score",
    "b_classifier.q": "query",
    "b_classifier.v": "value",
    "b_classifier.fcc": "head",
}


@register_model(
    "dsmil",
    title="DSMIL",
    tasks="single",
    paper="Li et al., CVPR 2021",
    official="binli123/dsmil-wsi@80465ed",
    official_recipe=OFFICIAL_RECIPE,
)
class DSMIL(MILModel):
    """Two streams: max pooling over instance scores, and attention by likeness to the top instance.

    With features x_n and classes c::

        s_n = W x_n + w                                     (1) instance stream
        i_c = argmax_n s_nc                                 (2) critical instance
        A_cn = softmax_n q(x_n) . q(x_{i_c}) / sqrt(width)  (3) bag stream
        logit_c = conv(A v(x))_c                            (4)

    Every task is a class c. The bag rows of all classes feed every logit.

    Parameters
    ----------
    in_features, n_tasks : D and C.
    hidden : width of the optional embedding.
    attention : width of the query q. Official: 128.
    dropout : before the value layer, so it acts only with `transforms_values`. Official `dropout_v`: 0.
    patch_dropout : fraction of the patches left out of a training bag. Official `dropout_patch`: 0.
    nonlinear_query : q = Linear, ReLU, Linear, tanh (official default). False: one Linear.
    transforms_values : v = Dropout, Linear, ReLU (official `passing_v`). False: v is the features themselves.
    embeds : Linear, ReLU of width `hidden` come first, as in MIL-Lab. The official code has no embedding.
    average_streams : predict the mean probability of both streams (official `--average`). False: the bag stream's.
    init : "default" (torch's; `train_mil.py`) or "orthogonal" with zero biases (`train_tcga.py`).
    """

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.0,
        patch_dropout: float = 0.0,
        nonlinear_query: bool = True,
        transforms_values: bool = False,
        embeds: bool = False,
        average_streams: bool = False,
        init: Init = "default",
    ) -> None:
        super().__init__(in_features, n_tasks)
        width = hidden if embeds else in_features
        self.patch_dropout = patch_dropout
        self.average_streams = average_streams
        self.embed = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU()) if embeds else nn.Identity()
        self.score = nn.Linear(width, n_tasks)
        self.query = _query(width, attention, nonlinear=nonlinear_query)
        self.value = (
            nn.Sequential(Dropout(dropout), nn.Linear(width, width), nn.ReLU())
            if transforms_values
            else nn.Identity()
        )
        self.head = nn.Conv1d(n_tasks, n_tasks, kernel_size=width)
        self.scale = 1 / sqrt(attention)
        if one_of(Init, init=init) == "orthogonal":
            self.apply(_start_orthogonal)

    def forward(self, features: Tensor) -> BagOutput:
        """Logits [C], bag-stream attention [C, N]; aux `instance_logits` [N, C], `top_logits` [C], `bag_logits` [C]."""
        mask = self._patch_mask(features)                               # [N]       0, or -inf where left out
        h = self.embed(features)                                        # [N, K]
        s = self.score(h)                                               # [N, C]    (1)
        top, critical = (s + mask[:, None]).max(dim=0)                  # [C], [C]  (2)
        q = self.query(h)                                               # [N, Q]
        likeness = self.query(h[critical]) @ q.T * self.scale           # [C, N]
        attention = (likeness + mask).softmax(dim=1)                    # [C, N]    (3)
        rows = attention @ self.value(h)                                # [C, K]
        bag = self.head(rows[None])[0, :, 0]                            # [C]       (4)
        logits = logit_of_mean_probability(torch.stack((top, bag))) if self.average_streams else bag
        return BagOutput(logits, attention, {"instance_logits": s, "top_logits": top, "bag_logits": bag})

    def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
        """Mean over the known tasks of half the cross-entropy of each stream (official), a scalar."""
        streams = torch.stack((output.aux["top_logits"], output.aux["bag_logits"]))
        both = binary_cross_entropy_with_logits(streams, targets.expand_as(streams), reduction="none").mean(dim=0)
        return (both * known).sum() / known.sum().clamp(min=1)

    def attention_rows(self) -> tuple[str, ...]:
        """One row per task: likeness to the task's critical patch."""
        return tuple(f"task {task}" for task in range(self.n_tasks))

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Attention A [C, N] of the bag stream; alternative: the instance logits."""
        output = self(features)
        instances = {"instance logits": output.aux["instance_logits"].detach().T}
        attention, logits = output.attention.detach(), output.logits.detach()
        return AttentionMaps(
            "softmax attention of the bag stream", attention, logits, is_distribution=True, alternatives=instances
        )

    def _patch_mask(self, features: Tensor) -> Tensor:
        """Mask [N] to add to scores: -inf at the patches that this training pass leaves out, 0 elsewhere."""
        n = features.shape[0]
        mask = features.new_zeros(n)
        kept = max(1, int(n * (1 - self.patch_dropout)))
        if not self.training or kept == n:
            return mask
        return mask.masked_fill(torch.randperm(n, device=features.device) >= kept, -torch.inf)

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor], **options: Any) -> DSMIL:
        """Model in eval mode with the weights of an official `MILNet(FCLayer, BClassifier)`."""
        n_classes, in_features = shape_of(state_dict, "i_classifier.fc.0.weight")
        nonlinear = "b_classifier.q.weight" not in state_dict
        query = "b_classifier.q.2.weight" if nonlinear else "b_classifier.q.weight"
        told = {
            "attention": shape_of(state_dict, query)[0],
            "nonlinear_query": nonlinear,
            "transforms_values": "b_classifier.v.1.weight" in state_dict,
        }
        return load_official(cls(in_features, n_classes, **{**told, **options}), state_dict, OFFICIAL_NAMES)


def _query(width: int, attention: int, *, nonlinear: bool) -> nn.Module:
    first = nn.Linear(width, attention)
    return nn.Sequential(first, nn.ReLU(), nn.Linear(attention, attention), nn.Tanh()) if nonlinear else first


def _start_orthogonal(layer: nn.Module) -> None:
    if isinstance(layer, (nn.Linear, nn.Conv1d)):
        nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # every layer here has one
