"""DSMIL: the bag looks at its critical instance.

paper    Li, Li, Eliceiri, "Dual-stream multiple instance learning network", CVPR 2021
code     binli123/dsmil-wsi@80465ed (`dsmil.py`; recipe of `train_tcga.py`)
differs  scores are divided by sqrt(width) in the model's own precision; official: a float32 root
         `patch_dropout` acts in training only; the official `dropout_patch` also acts in evaluation
         `average_streams` is the mean of the two answers; the official trainer's `--average` is their sum
kinds    classes: the official C sigmoids, whose logits are returned as their logarithms, so that softmax divides them by
         their sum; grades, scores, survival: each logit has a critical patch of its own, and both streams take the task's
         loss; Cox's loss is taken of the mean of both streams, which is then the answer
map      the bag stream's attention A_c of (3), which sums to 1; of grades and time bins the mean over their logits,
         weighted by the grade where each grade has a logit; alternative: the instance logits s_c of (1), decoded
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear, logsigmoid

from milbench.endpoints.endpoint import KINDS
from milbench.endpoints.evidence import evidence
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.losses import smoothed
from milbench.endpoints.outputs import Outputs
from milbench.models import AttentionMaps, BagOutput, MILModel, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers.attention_shares import shares_of_rows
from milbench_baselines.layers.averaging import logits_of_mean_answer
from milbench_baselines.layers.checkpoint import load_official, shape_of
from milbench_baselines.layers.critical_attention import Attended, attended_in_blocks
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.options import one_of
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.row_blocks import FEW, goes_in_blocks, is_relu
from milbench_baselines.layers.small_bags import is_cheap, is_small_stack, together
from milbench_baselines.layers.usual import are_linear, is_usual

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

FEW_IN_STEP = 400
"""Patches up to which a step takes less time operation by operation, with two threads by 4 %. Then a function of both streams does."""

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
    study=True,
    paper="Li et al., CVPR 2021",
    official="binli123/dsmil-wsi@80465ed",
    official_recipe=OFFICIAL_RECIPE,
    search_space=SearchSpace(
        model={
            "attention": TimesOneOf(0.5, 1, 2),
            "dropout": Choice(0.0, 0.1, 0.25, 0.5),
            "patch_dropout": Choice(0.0, 0.2, 0.4),
            "nonlinear_query": Choice(True, False),  # noqa: FBT003 - values to choose from
        }
    ),
    kinds=KINDS,
)
class DSMIL(MILModel):
    """Two streams: max pooling over instance scores, and attention by likeness to the top instance.

    With features x_n and classes c::

        s_n = W x_n + w                                     (1) instance stream
        i_c = argmax_n s_nc                                 (2) critical instance
        A_cn = softmax_n q(x_n) . q(x_{i_c}) / sqrt(width)  (3) bag stream
        logit_c = conv(A v(x))_c                            (4)

    Every logit is a class c: a binary task, a class, a threshold between grades, a time bin. The bag rows of all feed
    every logit.

    Parameters
    ----------
    in_features, n_outputs : D and C.
    hidden : width of the optional embedding.
    attention : width of the query q. Official: 128.
    dropout : before the value layer, so it acts only with `transforms_values`. Official `dropout_v`: 0.
    patch_dropout : fraction of the patches left out of a training bag. Official `dropout_patch`: 0.
    nonlinear_query : q = Linear, ReLU, Linear, tanh (official default). False: one Linear.
    transforms_values : v = Dropout, Linear, ReLU (official `passing_v`). False: v is the features themselves.
    embeds : Linear, ReLU of width `hidden` come first, as in MIL-Lab. The official code has no embedding.
    average_streams : predict the mean of both streams' answers (official `--average`). False: the bag stream's.
        Probabilities are averaged, of grades those above each threshold, of survival those of being alive after each bin;
        values as they are.
    init : "default" (torch's; `train_mil.py`) or "orthogonal" with zero biases (`train_tcga.py`).
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
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
        super().__init__(in_features, n_outputs)
        width = hidden if embeds else in_features
        self.patch_dropout = patch_dropout
        self.average_streams = average_streams
        self.sigmoids = Outputs(list(_apart(self.outputs)))
        self.embed = nn.Sequential(Linear(in_features, hidden), nn.ReLU()) if embeds else nn.Identity()
        self.score = Linear(width, n_outputs)
        self.query = _query(width, attention, nonlinear=nonlinear_query)
        self.value = (
            nn.Sequential(Dropout(dropout), Linear(width, width), nn.ReLU())
            if transforms_values
            else nn.Identity()
        )
        self.head = nn.Conv1d(n_outputs, n_outputs, kernel_size=width)
        self.attention, self.scale = attention, 1 / sqrt(attention)
        if one_of(Init, init=init) == "orthogonal":
            self.apply(_start_orthogonal)

    def forward(self, features: Tensor) -> BagOutput:
        """Logits [C], bag-stream attention [C, N]; aux `instance_logits` [N, C], `top_logits` [C], `bag_logits` [C]."""
        mask = self._patch_mask(features)                               # [N]       0, or -inf where left out
        h = self.embed(features)                                        # [N, K]
        if not are_linear(self.score) or (not torch.compiler.is_compiling() and _starts_sooner(h)):
            s = self.score(h)                                           # [N, C]    (1)
            top, places = (s if mask is None else s + mask[:, None]).max(dim=0)  # [C], [C]  (2)
            attention, bag = self._attended(h, mask, places)            # (3), (4)
        else:
            s, places, attention, bag = self._streams(h, mask)          # (1) to (4)
            critical = h[places]                                        # [C, K]
            top = (critical * self.score.weight).sum(dim=1) + self.score.bias  # [C]  only these scores need a gradient
        return BagOutput(self._answer(top, bag), attention, {"instance_logits": s, "top_logits": top, "bag_logits": bag})

    def _streams(self, h: Tensor, mask: Tensor | None) -> Attended:
        """Scores [N, C], places of the critical patches [C], attention [C, N] and the bag stream's logits [C] of rows h [N, K]."""
        mask = h.new_zeros(h.shape[0]) if mask is None else mask
        if goes_in_blocks(h, few=FEW) and is_usual(self.value, nn.Identity) and self._is_usual_after_embedding(4):
            return attended_in_blocks(h, mask, self.score, cast(nn.Sequential, self.query), self.head, self.scale)
        s = self._scores(h)                                             # [N, C]    (1)
        places = (s + mask[:, None]).max(dim=0).indices                 # [C]       (2)
        return Attended(s, places, *self._attended(h, mask, places))

    def _is_usual_after_embedding(self, *lengths: int) -> bool:
        """Whether functions of whole layers may take the place of scores, query and head.

        A query of length 4 is Linear, ReLU, Linear, tanh, and one of length 1 is Linear.
        """
        query: Any = self.query
        layers = list(query) if is_usual(query, Query) else [query]
        if len(layers) not in lengths or not is_usual(self.head, nn.Conv1d):
            return False
        activates = len(layers) == 1 or (is_relu(layers[1]) and is_usual(layers[3], nn.Tanh))
        return activates and are_linear(self.score, *layers[::2])

    def _attended(self, h: Tensor, mask: Tensor | None, places: Tensor) -> tuple[Tensor, Tensor]:
        """Attention [C, N] by likeness to the critical patches [C], and the bag stream's logits [C] of rows h [N, K]."""
        likeness = (self.query(h[places]) * self.scale) @ self.query(h).T  # [C, N]
        attention = (likeness if mask is None else likeness + mask).softmax(dim=1)  # [C, N]  (3)
        rows = attention @ self.value(h)                                # [C, K]
        return attention, self.head(rows[None])[0, :, 0]                # [C]       (4)

    def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
        """Mean over the known tasks of half the loss of each stream (official), a scalar."""
        streams = torch.stack((output.aux["top_logits"], output.aux["bag_logits"]))  # [2, C]
        both = self._losses(streams, targets).mean(dim=0)                            # [T]
        return (both * known).sum() / (known > 0).sum().clamp(min=1)

    def of_stack(self, bags: Sequence[Tensor], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor] | None:
        """Losses [S, B] and logits [S, B, 1] of stacked models for one binary task, from the features themselves."""
        takes_features = is_usual(self.value, nn.Identity) and is_usual(self.embed, nn.Identity)
        if not takes_features or self.average_streams or not self._is_usual_after_embedding(1, 4):
            return None
        if not self.outputs.all_binary or int(self.outputs) > 1 or not is_small_stack(bags, self.attention):
            return None
        masks = [mask for mask in map(self._patch_mask, bags) if mask is not None]
        x, mask = together(bags), torch.stack(masks) if masks else None                 # [B, N, D], [B, N]
        n_models, (n_bags, n, _) = len(self.score.weight), x.shape
        # the bag stream's logit is the mean of what its head makes of the patches: they go through both layers together
        both = torch.cat([self.score.weight, self.head.weight[:, 0]]).view(2 * n_models, -1)
        s, v = (x.view(-1, x.shape[-1]) @ both.T).T.reshape(2, n_models, n_bags, n)     # [S, B, N] each
        s = s + cast(Tensor, self.score.bias)[:, :, None]                                             # (1)
        top, places = (s if mask is None else s + mask).max(dim=2, keepdim=True)        # [S, B, 1]  (2)
        q = self._queries(x).view(n_models, n_bags, n, -1)                              # [S, B, N, Q]
        critical = q.gather(2, places[..., None].expand(-1, -1, -1, q.shape[-1]))       # [S, B, 1, Q]
        likeness = ((critical * self.scale) @ q.mT).squeeze(2)                          # [S, B, N]
        attention = (likeness if mask is None else likeness + mask).softmax(dim=2)      # [S, B, N]  (3)
        bag = (attention * v).sum(dim=2, keepdim=True) + cast(Tensor, self.head.bias)[:, None]  # [S, B, 1]  (4)
        losses = self.task_losses(torch.stack((top, bag)), targets).mean(dim=0)         # [S, B, 1]
        return (losses * known).sum(dim=-1) / (known > 0).sum(dim=-1).clamp(min=1), bag

    def _queries(self, x: Tensor) -> Tensor:
        """Queries [S, B N, Q] of bags `x` [B, N, D] in stacked models."""
        rows = x.view(-1, x.shape[-1]).expand(len(self.score.weight), -1, -1)
        for layer in self.query if isinstance(self.query, nn.Sequential) else [self.query]:
            is_linear = isinstance(layer, nn.Linear)
            rows = torch.baddbmm(layer.bias[:, None], rows, layer.weight.mT) if is_linear else layer(rows)  # type: ignore[index, arg-type]
        return rows

    def _losses(self, streams: Tensor, targets: Tensor) -> Tensor:
        """Losses [2, T] of the streams' logits [2, C]; of classes the mean over their sigmoids."""
        losses = self.task_losses(streams, targets)
        if "multiclass" not in self.outputs.kinds:
            return losses
        each = zip(self.outputs.endpoints, self.outputs.slices, targets, losses.unbind(dim=1), strict=True)
        return torch.stack(
            [
                _one_vs_rest(streams[:, own], y, self.smoothing) if task.kind == "multiclass" else loss
                for task, own, y, loss in each
            ],
            dim=1,
        )

    def _answer(self, top: Tensor, bag: Tensor) -> Tensor:
        """Logits [C] that are returned, from those of the two streams [C]."""
        is_bag = not self.average_streams
        if is_bag and self.outputs.all_binary:
            return bag
        streams = torch.stack((top, bag))
        answer = bag if is_bag else logits_of_mean_answer(self.sigmoids, streams)
        if self.outputs.kinds <= {"binary", "ordinal", "regression"}:
            return answer
        each = zip(self.outputs.endpoints, self.outputs.slices, strict=True)
        return torch.cat([_returned(task, answer[own], streams[:, own]) for task, own in each])

    def attention_rows(self) -> tuple[str, ...]:
        """One row per logit: likeness to its critical patch."""
        return tuple(
            f"task {task}" + f", logit {logit}" * (width > 1)
            for task, width in enumerate(self.outputs.widths)
            for logit in range(width)
        )

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Attention [R, N] of the bag stream; alternative: the instance logits."""
        output = self(features)
        instances = {"instance logits": evidence(self.sigmoids, output.aux["instance_logits"]).detach().T}
        attention, logits = output.attention.detach(), output.logits.detach()
        of_tasks = [shares_of_rows(task, task.width) for task in self.outputs.endpoints]
        shares: Tensor = torch.block_diag(*of_tasks)  # type: ignore[no-untyped-call]  # [R, C]
        return AttentionMaps(
            "softmax attention of the bag stream", shares.to(attention) @ attention, logits, is_distribution=True,
            alternatives=instances,
        )  # fmt: skip

    def _scores(self, h: Tensor) -> Tensor:
        """Instance logits [N, C], without gradient: that of all would read the whole bag once more."""
        return linear(h.detach(), self.score.weight.detach(), self.score.bias.detach())

    def _patch_mask(self, features: Tensor) -> Tensor | None:
        """Mask [N] to add to scores: -inf at the patches that this training pass leaves out, 0 elsewhere; None = it leaves out none."""
        n = features.shape[0]
        kept = max(1, int(n * (1 - self.patch_dropout))) if self.training and self.patch_dropout else n
        if kept == n:
            return None
        return features.new_zeros(n).masked_fill(torch.randperm(n, device=features.device) >= kept, -torch.inf)

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, **options: Any
    ) -> DSMIL:
        """Model in eval mode with the weights of an official `MILNet(FCLayer, BClassifier)`.

        Its C sigmoids are C binary tasks, unless `n_outputs` says that they are classes or another kind.
        """
        n_classes, in_features = shape_of(state_dict, "i_classifier.fc.0.weight")
        nonlinear = "b_classifier.q.weight" not in state_dict
        query = "b_classifier.q.2.weight" if nonlinear else "b_classifier.q.weight"
        told = {
            "attention": shape_of(state_dict, query)[0],
            "nonlinear_query": nonlinear,
            "transforms_values": "b_classifier.v.1.weight" in state_dict,
        }
        return load_official(cls(in_features, n_outputs or n_classes, **{**told, **options}), state_dict, OFFICIAL_NAMES)


def _starts_sooner(h: Tensor) -> bool:
    """Whether streams of rows h [N, K] cost less operation by operation, because starting a function of both would not pay."""
    return is_cheap(h, h.shape[1]) or (torch.is_grad_enabled() and h.shape[0] <= FEW_IN_STEP)


def _apart(outputs: Outputs) -> Iterator[FittedEndpoint]:
    """Tasks as the streams answer them: each class is a binary task of its own."""
    for task in outputs.endpoints:
        yield from [FittedEndpoint()] * task.width if task.kind == "multiclass" else [task]


def _one_vs_rest(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy [...] of C sigmoids with logits [..., C] and the class's place, whose targets may be smoothed."""
    n_classes = logits.shape[-1]
    is_class = (torch.arange(n_classes, device=logits.device) == target).to(logits.dtype)
    soft = smoothed(is_class, smoothing, n_classes=n_classes)
    return binary_cross_entropy_with_logits(logits, soft.expand_as(logits), reduction="none").mean(dim=-1)


def _returned(task: FittedEndpoint, answer: Tensor, streams: Tensor) -> Tensor:
    """Logits [width] that answer a task, from its `answer` [width] and both streams [2, width]."""
    if task.loss == "cox":  # the derivative that the step hands to each bag is that of the returned logit
        return streams.mean(dim=0)
    return logsigmoid(answer) if task.kind == "multiclass" else answer


class Query(nn.Sequential):
    """Queries [N, Q] of patches [N, K]: Linear, ReLU, Linear, tanh."""

    def __init__(self, width: int, attention: int) -> None:
        super().__init__(Linear(width, attention), nn.ReLU(), Linear(attention, attention), nn.Tanh())

    def forward(self, rows: Tensor) -> Tensor:
        """Queries [N, Q]."""
        first, relu, *others = self
        if not are_linear(first) or not is_relu(relu):  # somebody may hold what the first layer has made
            return super().forward(rows)  # type: ignore[no-any-return, no-untyped-call]
        # in place: a bag's queries are large, and no gradient needs them before the activation
        rows = first(rows).relu_()
        for layer in others:
            rows = layer(rows)
        return rows


def _query(width: int, attention: int, *, nonlinear: bool) -> nn.Module:
    return Query(width, attention) if nonlinear else Linear(width, attention)


def _start_orthogonal(layer: nn.Module) -> None:
    if isinstance(layer, (nn.Linear, nn.Conv1d)):
        nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # every layer here has one
