"""CLAM: attention pooling with a second task, which sorts the most and least attended patches.

paper    Lu et al., "Data-efficient and weakly supervised computational pathology on whole-slide images", Nature Biomedical
         Engineering 2021
code     mahmoodlab/CLAM@53e2409 (`CLAM_SB`, `CLAM_MB`), with oval-group/smooth-topk@12c1645
differs  a binary task's logit is the difference of the official two, so BCE on it is their cross-entropy
         bags under `instances` patches give all their patches to both halves; the official code raises
         of equal scores the earlier patch ranks higher; the official code leaves that open. Raw scores are ranked, because
           their softmax makes more of them equal
         instance heads that a label does not use get a zero gradient; the official ones get none, so that Adam skips them,
           while here its weight decay and momentum go on
         smoothed labels weigh the instance losses of all classes, as if each were the label for its share
         the validation loss, which chooses the epoch, holds the instance loss too; the official one is the bag's alone.
           Ties take the earlier epoch, official: the later. Patience counts at once, official: after epoch 51
         both attention branches share one dropout mask: an entry stays as often as with two
kinds    grades: instance losses as for classes, a head per grade; the branch of the threshold above a grade ranks its patches,
         of the highest grade the last one; values and survival: no instance loss, and the bag's loss counts whole
map      the softmax attention, which sums to 1; CLAM-MB: of a class its own branch, of a binary task that of class 1 (what
         the logit subtracts is not shown), of grades the mean over branches, weighted by the grade where each has a logit
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import log
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from milbench.endpoints.endpoint import KINDS
from milbench.endpoints.losses import smoothed
from milbench.errors import UsageError
from milbench.models import AttentionMaps, BagOutput, MILModel, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers.attention_branches import AttentionBranches, ranked
from milbench_baselines.layers.attention_shares import shares_of_rows
from milbench_baselines.layers.checkpoint import load_official, outputs_of_classes, shape_of
from milbench_baselines.layers.embedding import Embedding
from milbench_baselines.layers.options import one_of
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.side_by_side import linear_on_own_bags
from milbench_baselines.layers.two_class import answer_of, head_width, refuse_several_tasks

BagLoss = Literal["ce", "svm"]
InstanceLoss = Literal["svm", "ce", "none"]

ATTENTION_DROPOUT = 0.25
"""Official rate in the attention whenever there is dropout at all."""

HARD_FROM = log(1000)
"""The smooth SVM is the hard one where the largest score is at least this far above the second largest."""

OFFICIAL_RECIPE = {
    "optimizer": "adam",
    "lr": 2e-4,
    "weight_decay": 1e-5,
    "schedule": "constant",
    "epochs": 200,
    "sampler": "balanced",
    "select_by": "val_loss",
    "patience": 19,  # official 20: its stopper ends at the 20th epoch without improvement, milbench at epoch `patience` + 1
}

SPACE = SearchSpace(
    model={
        "hidden": TimesOneOf(0.5, 1, 2),
        "attention": TimesOneOf(0.5, 1, 2),
        "dropout": Choice(0.0, 0.1, 0.25, 0.5),
        "bag_weight": Choice(0.5, 0.7, 0.9),
    }
)

OFFICIAL_NAMES = {
    "attention_net.0": "embed.0",
    "attention_net.3.attention_a.0": "attention.tanh_branch",
    "attention_net.3.attention_b.0": "attention.sigmoid_branch",
    "attention_net.3.attention_c": "attention.score",
    "attention_net.3.module.0": "attention.tanh_branch",  # without the gate
    "attention_net.3.module.3": "attention.score",
    "instance_classifiers": "instance_heads",
}


def cross_entropies(scores: Tensor) -> Tensor:
    """Losses [..., C] of scores [..., C], as if each class were the label."""
    return -scores.log_softmax(dim=-1)


def smooth_svms(scores: Tensor) -> Tensor:
    """Losses [..., C] of scores [..., C], as if each class were the label: smooth top-1 SVM with margin 1, temperature 1.

    logsumexp_j(x_j + [j != t]) - x_t, or with the largest in place of logsumexp where one score is far ahead.
    """
    margins = 1 - torch.eye(scores.shape[-1], dtype=scores.dtype, device=scores.device)
    raised = scores[..., None, :] + margins                                # [..., t, j]
    first, second = scores.detach().topk(2, dim=-1).values.unbind(dim=-1)
    is_hard = first - second >= HARD_FROM                                  # [...]
    return torch.where(is_hard[..., None], raised.amax(dim=-1), raised.logsumexp(dim=-1)) - scores


BY_CLASS: Mapping[str, Callable[[Tensor], Tensor]] = {"ce": cross_entropies, "svm": smooth_svms}


class CLAM(MILModel):
    """Gated-attention pooling with K attention branches, and a head per class for the most and least attended patches.

    With h_n = Dropout(ReLU(W x_n + b)), branches k and classes c::

        s_kn = w_k . (tanh(V h_n) * sigmoid(U h_n))                        (1)
        M_k = sum_n a_kn h_n,  a_k = softmax over n of s_k                 (2)
        logits: CLAM-SB C M_1 + c; CLAM-MB C_k M_k + c_k, one per branch   (3)
        z_c = C'_c h_n + c'_c at the B patches with the largest and the
        B with the smallest s_kn, k = c (CLAM-SB: 1)                       (4)
        loss = w bag loss + (1 - w) sum_c instance loss_c                  (5)

    The label's class c has the instance loss mean_n l(z_cn, t_n), t_n = 1 in the first half, 0 in the second. With
    `subtyping` every other class has it on its first half alone, with t_n = 0, and the sum is divided by the number of
    classes. The choice of patches has no gradient.

    A binary task has two logits in the head, two branches (CLAM-MB) and two instance heads. Its answer is the difference of
    the two logits.

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of one task.
    hidden : width of h. Official: 512.
    attention : width of V and U. Official: 256 ("small"), 384 ("big").
    dropout : on h. The attention has 0.25 unless this is 0, as in the official code.
    gate : False leaves the sigmoid of (1) out.
    instances : B; in bags of fewer patches all of them. Official `k_sample`: 8.
    subtyping : whether a patch can speak for one class alone. None: for three classes and more, as in the official tasks.
    bag_weight : w, from 0 to 1. Official: 0.7.
    bag_loss : "ce", the task's usual loss, or "svm" where each class has a logit. Official: "ce".
    instance_loss : l, "svm" (smooth top-1 SVM; official README), "ce" (official without an argument), or "none": no
        instance heads, loss = bag loss.
    """

    has_branch_per_logit: ClassVar[bool]

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        attention: int = 256,
        dropout: float = 0.25,
        gate: bool = True,
        instances: int = 8,
        subtyping: bool | None = None,
        bag_weight: float = 0.7,
        bag_loss: BagLoss = "ce",
        instance_loss: InstanceLoss = "svm",
    ) -> None:
        super().__init__(in_features, n_outputs)
        refuse_several_tasks(type(self).info.title, self.outputs)
        if not 0 <= bag_weight <= 1:
            raise UsageError(f"bag_weight is {bag_weight}; expected a share from 0 to 1.")
        (self.task,) = self.outputs.endpoints
        self.instances, self.bag_weight = instances, bag_weight
        self.bag_loss, self.instance_loss = one_of(BagLoss, bag_loss=bag_loss), one_of(InstanceLoss, instance_loss=instance_loss)
        self.subtyping = self.task.kind == "multiclass" if subtyping is None else subtyping
        width = head_width(self.outputs)
        self.n_branches = width if self.has_branch_per_logit else 1
        self.n_classes = (len(self.task.endpoint.classes) or 2) if self.task.has_classes else 0
        self.embed = Embedding(in_features, hidden, dropout)
        self.attention = AttentionBranches(
            hidden, attention, self.n_branches, dropout=ATTENTION_DROPOUT if dropout else 0.0, gate=gate
        )
        self.heads = nn.ModuleList([Linear(hidden, width // self.n_branches) for _ in range(self.n_branches)])
        n_instance_heads = 0 if instance_loss == "none" else self.n_classes
        self.instance_heads = nn.ModuleList([Linear(hidden, 2) for _ in range(n_instance_heads)])

    def forward(self, features: Tensor) -> BagOutput:
        """Logits [W], attention [K, N]; aux `head_logits` [C], `scores` [K, N], `slide` [K, H], `instance_logits` [C, 2B, 2]."""
        h = self.embed(features)                                          # [N, H]
        scores = self.attention(h)                                        # [K, N]      (1)
        attention = scores.softmax(dim=1)                                 # [K, N]
        slide = attention @ h                                             # [K, H]      (2)
        head_logits = linear_on_own_bags(self.heads, slide[:, None]).flatten()  # [C]   (3)
        aux = {"head_logits": head_logits, "scores": scores, "slide": slide}
        if self.instance_heads and not torch.compiler.is_exporting():     # ONNX has no stable sort, and gives logits alone
            aux["instance_logits"] = self._instance_logits(h, scores)     # [C, 2B, 2]  (4)
        return BagOutput(answer_of(self.outputs, head_logits), attention, aux)

    def _instance_logits(self, h: Tensor, scores: Tensor) -> Tensor:
        """Logits [C, 2B, 2] of the heads at the B most and the B least attended of embedded patches h [N, H]."""
        order = ranked(scores)                                            # [K, N]
        halves = (order[:, : self.instances], order.flip(1)[:, : self.instances])
        extremes = torch.cat(halves, dim=1)                               # [K, 2B]
        # not by a list: its numbers would be copied to a GPU, whose stream would wait for them
        of_class = torch.stack([extremes[min(c, self.n_branches - 1)] for c in range(self.n_classes)])  # [C, 2B]
        return linear_on_own_bags(self.instance_heads, h[of_class])

    def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
        """Weighted sum of the bag's and the instances' loss, a scalar."""
        bag = self._bag_loss(output, targets)
        if not self.instance_heads:
            return bag * known[0]
        instance = self._instance_loss(output.aux["instance_logits"], targets)
        return (self.bag_weight * bag + (1 - self.bag_weight) * instance) * known[0]              # (5)

    def _bag_loss(self, output: BagOutput, targets: Tensor) -> Tensor:
        head_logits = output.aux["head_logits"]
        if self.bag_loss == "svm" and len(head_logits) == self.n_classes:
            return (self._class_weights(targets, head_logits) * smooth_svms(head_logits)).sum()
        return self.task_losses(output.logits, targets)[0]

    def _instance_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Instance loss, a scalar, of logits [C, 2B, 2]: of all classes, weighted, because no value may decide."""
        losses = BY_CLASS[self.instance_loss](logits)                     # [C, 2B, 2]
        most, least = losses.chunk(2, dim=1)                              # [C, B, 2] each
        of_label = (most[..., 1].mean(dim=1) + least[..., 0].mean(dim=1)) / 2                     # [C]
        weights = self._class_weights(targets, losses)                    # [C]
        if not self.subtyping:
            return (weights * of_label).sum()
        return (weights * of_label + (1 - weights) * most[..., 0].mean(dim=1)).mean()

    def _class_weights(self, targets: Tensor, like: Tensor) -> Tensor:
        """Weights [C] of the classes: 1 of the label's, or smoothed as the bag's loss smooths it."""
        is_class = (torch.arange(self.n_classes, device=like.device) == targets[0]).to(like.dtype)
        share = self.smoothing if self.task.loss in ("bce", "ce") else 0.0
        return smoothed(is_class, share, n_classes=self.n_classes)

    def attention_rows(self) -> tuple[str, ...]:
        """One row per branch."""
        return tuple(f"branch {k}" for k in range(self.n_branches)) if self.n_branches > 1 else ("attention",)

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Softmax attention [R, N]; of a single branch the same row for every class."""
        output = self(features)
        attention, logits = output.attention.detach(), output.logits.detach()  # type: ignore[union-attr]
        if self.n_branches == 1:
            maps = attention.expand(len(self.outputs.maps), -1)
            return AttentionMaps("softmax attention", maps, logits, is_distribution=True)
        maps = shares_of_rows(self.task, self.n_branches).to(attention) @ attention
        return AttentionMaps(
            "softmax attention", maps, logits, is_distribution=True, per_expert=attention, experts=self.attention_rows()
        )

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, **options: Any
    ) -> Self:
        """Model in eval mode with the weights of an official `CLAM_SB` or `CLAM_MB`.

        Its two classes are a binary task and more are classes, unless `n_outputs` says what the logits answer. A model
        without instance heads leaves out those of the checkpoint. Buffers of the official loss functions are left out.
        """
        hidden, in_features = shape_of(state_dict, "attention_net.0.weight")
        gate = "attention_net.3.module.0.weight" not in state_dict
        first = "attention_net.3.attention_a.0.weight" if gate else "attention_net.3.module.0.weight"
        told: dict[str, Any] = {"hidden": hidden, "attention": shape_of(state_dict, first)[0], "gate": gate}
        heads = [len(tensor) for name, tensor in state_dict.items() if re.match(r"classifiers\..*weight", name)]
        model = cls(in_features, n_outputs or outputs_of_classes(sum(heads)), **told | options)
        unused = ("instance_loss_fn.", *(() if model.instance_heads else ("instance_classifiers.",)))
        kept = {name: tensor for name, tensor in state_dict.items() if not name.startswith(unused)}
        names = {**OFFICIAL_NAMES, "classifiers": "heads" if cls.has_branch_per_logit else "heads.0"}
        return load_official(model, kept, names)


DECLARED: dict[str, Any] = {
    "tasks": "single",
    "paper": "Lu et al., Nat Biomed Eng 2021",
    "official": "mahmoodlab/CLAM@53e2409",
    "official_recipe": OFFICIAL_RECIPE,
    "search_space": SPACE,
    "kinds": KINDS,
    "learns_cox": True,
}


@register_model("clam_sb", title="CLAM-SB", **DECLARED)
class CLAMSB(CLAM):
    """CLAM with one attention branch."""

    has_branch_per_logit = False


@register_model("clam_mb", title="CLAM-MB", **DECLARED)
class CLAMMB(CLAM):
    """CLAM with one attention branch per logit of the head, and a Linear from each branch's slide feature to its logit."""

    has_branch_per_logit = True
