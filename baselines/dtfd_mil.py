"""DTFD-MIL: pseudo-bags in the first tier, features distilled from them in the second.

paper    Zhang et al., "DTFD-MIL: double-tier feature distillation MIL", CVPR 2022
code     hrzhang1123/DTFD-MIL@10964f4
differs  distilled rows are detached and the tiers' losses summed; the gradients are those of the official two
           optimisers, which discard the gradient of tier 2 into tier 1
         a binary task's logit is the difference of the official two, so BCE on it is their cross-entropy
         of more classes, MaxS and MaxMinS rank patches by their likeliest class; the official code by the last class
         at most N pseudo-bags, unless `small_bags="official"`
         evaluation's grouping is fixed by N; the official code draws a new one
kinds    both tiers have W logits; patches are ranked by the expected grade, the value or the risk of their evidence;
         Cox's loss is taken of the sum of both tiers' logits, which is then the answer
map      tier-1 attention, a softmax inside each pseudo-bag, divided by their number so that the map sums to 1;
         alternative: the instance scores, what the attention-weighted patch C (a_n h_n) without bias says for class 1,
         or for the class, grade, value or risk
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from milbench.endpoints.endpoint import KINDS
from milbench.endpoints.evidence import evidence, task_evidence
from milbench.errors import UsageError
from milbench.models import AttentionMaps, BagOutput, MILModel, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers.averaging import logit_of_mean_probability, logits_of_mean_answer
from milbench_baselines.layers.checkpoint import load_official, outputs_of_classes, shape_of
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.options import one_of
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.pseudo_bag_pooling import PseudoBags, pooled_pseudo_bags
from milbench_baselines.layers.pseudo_bags import fixed_orders, members_of_parts, sizes_of_parts
from milbench_baselines.layers.row_blocks import goes_in_blocks, is_relu
from milbench_baselines.layers.small_attention import pooled_stack
from milbench_baselines.layers.small_bags import is_cheap, is_small_stack, together
from milbench_baselines.layers.two_class import answer_of, head_width, log_odds, refuse_several_tasks
from milbench_baselines.layers.usual import are_dropout, are_linear, is_usual

Distillation = Literal["AFS", "MaxS", "MaxMinS"]
SmallBags = Literal["cap", "official"]

OFFICIAL_RECIPE = {
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 1e-4,
    "schedule": "multistep",
    "milestones": (100,),
    "gamma": 0.2,
    "epochs": 200,
    "select_after": 0.8,
    "clip_norm": 5.0,
}

OFFICIAL_NAMES = {
    "dimReduction.fc1": "reduction.0",
    "attention.attention_V.0": "attention.tanh_branch",
    "attention.attention_U.0": "attention.sigmoid_branch",
    "attention.attention_weights": "attention.score",
    "classifier.fc": "classifier.linear",
    "attCls.attention.attention_V.0": "tier_two.attention.tanh_branch",
    "attCls.attention.attention_U.0": "tier_two.attention.sigmoid_branch",
    "attCls.attention.attention_weights": "tier_two.attention.score",
    "attCls.classifier.fc": "tier_two.classifier.linear",
}


class Residual(nn.Module):
    """Rows [N, L] of the reduction's residual block: x + ReLU(Linear(ReLU(Linear x))), no biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = Linear(width, width, bias=False), Linear(width, width, bias=False)
        self.block = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Rows [N, L] of rows [N, L]."""
        return x + self.block(x)  # type: ignore[no-any-return]


class Head(nn.Module):
    """Logits [..., C] of rows [..., L]: Dropout, then Linear."""

    def __init__(self, in_features: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = Linear(in_features, n_classes)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits [..., C] of rows [..., L]."""
        return self.linear(self.dropout(rows))  # type: ignore[no-any-return]

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take this one's place."""
        return is_usual(self, Head) and are_dropout(self.dropout) and are_linear(self.linear)

    def of_stack(self, rows: Tensor) -> Tensor:
        """Logits [S, B, ..., C] of rows [S, B, ..., L] in S stacked heads, which share the mask of each of B bags."""
        mask = self.dropout.masks(rows.shape[1], tuple(rows.shape[2:]), like=rows)
        kept = (rows if mask is None else rows * mask).flatten(1, -2)                 # [S, R, L]
        logits = torch.baddbmm(self.linear.bias[:, None], kept, self.linear.weight.mT)
        return logits.view(*rows.shape[:-1], -1)


class AttentionClassifier(nn.Module):
    """Logits [C] of rows [M, L]: gated-attention MIL without an embedding."""

    def __init__(self, width: int, attention: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.attention = GatedAttention(width, attention)
        self.classifier = Head(width, n_classes, dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits [C] of rows [M, L]."""
        weights = self.attention(rows).softmax(dim=0)                       # [M]
        return self.classifier(weights @ rows)  # type: ignore[no-any-return]

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take this one's place."""
        return is_usual(self, AttentionClassifier) and self.attention.is_usual and self.classifier.is_usual


class Round(NamedTuple):
    """Results of one grouping of the patches.

    Attributes
    ----------
    pseudo_logits : Tensor [G, C]. Tier 1, per pseudo-bag.
    distilled : Tensor [M, L]. Rows for tier 2.
    slide_logits : Tensor [C]. Tier 2.
    attention : Tensor [N]. Tier 1; sums to 1 inside each pseudo-bag.
    """

    pseudo_logits: Tensor
    distilled: Tensor
    slide_logits: Tensor
    attention: Tensor


@register_model(
    "dtfd_mil",
    title="DTFD-MIL",
    tasks="single",
    study=True,
    paper="Zhang et al., CVPR 2022",
    official="hrzhang1123/DTFD-MIL@10964f4",
    order_matters=True,
    official_recipe=OFFICIAL_RECIPE,
    search_space=SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "dropout": Choice(0.0, 0.1, 0.25, 0.5),
            "pseudo_bags": Choice(2, 4, 8),
        }
    ),
    kinds=KINDS,
)
class DTFDMIL(MILModel):
    """Gated-attention MIL on the pseudo-bags g of the shuffled patches, then on rows distilled from them.

    ::

        h_n = ReLU(W x_n)                                     (1)
        a_n = softmax over g of gated attention(h_n)          (2)
        b_g = sum_g a_n h_n;  tier-1 logits = C b_g + c       (3)
        AFS: b_g. MaxS, MaxMinS: h of the patches with the
        largest (and smallest) class evidence C (a_n h_n)     (4) distillation
        slide logits = gated-attention MIL on those rows      (5) tier 2

    A binary task has two logits in both tiers, which the answer subtracts. Other kinds have W.

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of one task.
    hidden, attention : widths of h and of both gated attentions. Official: 512, 128.
    dropout, tier_two_dropout : before the classifiers of the two tiers. Official `droprate`, `droprate_2`: 0.
    distillation : official `distill_type`. MAS is left out: no released code uses it.
    pseudo_bags : number of pseudo-bags. Official `numGroup`: 4.
    total_instances : MaxS and MaxMinS keep `total_instances // pseudo_bags` patches per pseudo-bag. Official
        `total_instance`: 4.
    residual_layers : residual blocks after the reduction. Official `numLayer_Res`: 0.
    regroupings : groupings that evaluation averages over. Official `num_MeanInference`: 1.
    small_bags : what happens if N is below `pseudo_bags`. "cap" makes N pseudo-bags, as torchmil does; "official" leaves
        pseudo-bags empty.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        attention: int = 128,
        dropout: float = 0.0,
        tier_two_dropout: float = 0.0,
        distillation: Distillation = "AFS",
        pseudo_bags: int = 4,
        total_instances: int = 4,
        residual_layers: int = 0,
        regroupings: int = 1,
        small_bags: SmallBags = "cap",
    ) -> None:
        super().__init__(in_features, n_outputs)
        refuse_several_tasks("DTFD-MIL", self.outputs)
        if pseudo_bags < 1 or regroupings < 1:
            raise UsageError(f"pseudo_bags={pseudo_bags}, regroupings={regroupings}; both must be at least 1.")
        if distillation != "AFS" and total_instances < pseudo_bags:
            raise UsageError(
                f"total_instances={total_instances}; {distillation} needs at least {pseudo_bags}, one per pseudo-bag."
            )
        self.distillation = one_of(Distillation, distillation=distillation)
        self.pseudo_bags = pseudo_bags
        self.kept = total_instances // pseudo_bags
        self.regroupings = regroupings
        self.small_bags = one_of(SmallBags, small_bags=small_bags)
        self.reduction = nn.Sequential(
            Linear(in_features, hidden, bias=False), nn.ReLU(), *(Residual(hidden) for _ in range(residual_layers))
        )
        self.attention = GatedAttention(hidden, attention)
        n_classes = head_width(self.outputs)
        self.classifier = Head(hidden, n_classes, dropout)
        self.tier_two = AttentionClassifier(hidden, attention, n_classes, tier_two_dropout)

    def forward(self, features: Tensor) -> BagOutput:
        """Logits [W], tier-1 attention [1, N]; aux as in `forward_grouped`. The grouping is random in training only."""
        return self.forward_grouped(features, self._orders(features))

    def forward_grouped(self, features: Tensor, orders: list[Tensor]) -> BagOutput:
        """Output for R given orders [N] of the patches, each cut into consecutive pseudo-bags.

        Aux: `pseudo_logits` [R G, C], `slide_logits` [R, C], `distilled` [R M, L]; C is 2 of a binary task, else W.
        """
        goes = goes_in_blocks(features, self.attention.dropout) and not is_cheap(features, self.attention.tanh_branch.in_features)
        if goes and len(orders) == 1 and self._is_usual:
            return self._output([self._round_in_blocks(features, orders[0])])
        return self._output(self._rounds(self.reduction(features), orders)) #          (1)

    def _rounds(self, h: Tensor, orders: list[Tensor]) -> list[Round]:
        """Results of R groupings of embedded patches h [N, L]."""
        scores = self.attention(h)                                          # [N]
        return [self._round(h, scores, order) for order in orders]

    def _output(self, rounds: list[Round]) -> BagOutput:
        """Output of R groupings."""
        slide_logits = torch.stack([r.slide_logits for r in rounds])        # [R, C]
        attention = torch.stack([r.attention for r in rounds]).mean(dim=0)  # [N]
        aux = {name: torch.cat([getattr(r, name) for r in rounds]) for name in ("pseudo_logits", "distilled")}
        aux["slide_logits"] = slide_logits
        return BagOutput(self._answer(slide_logits, aux["pseudo_logits"]), attention[None], aux)

    def _answer(self, slide_logits: Tensor, pseudo_logits: Tensor) -> Tensor:
        """Logits [W] that are returned, from those of R groupings in tier 2 [R, C] and in tier 1 [R G, C]."""
        if self.outputs.all_binary:
            return logit_of_mean_probability(log_odds(slide_logits))[None]
        logits = logits_of_mean_answer(self.outputs, slide_logits)
        # the derivative that Cox's step hands to each bag is that of the returned logit
        return logits + pseudo_logits.mean(dim=0) if self.outputs.endpoints[0].loss == "cox" else logits

    def _round(self, h: Tensor, scores: Tensor, order: Tensor) -> Round:
        """Results of embedded patches h [N, L] with scores [N], grouped by `order` [N]."""
        sizes = sizes_of_parts(h.shape[0], self.pseudo_bags)
        member = members_of_parts(order, self.pseudo_bags)                             # [G, N]
        a = torch.where(member, scores, -torch.inf).softmax(dim=1)          # [G, N]   (2)
        return self._tiers(PseudoBags(a @ h, a, h), member, sizes)          #          (3)

    def _round_in_blocks(self, features: Tensor, order: Tensor) -> Round:
        """Results of features [N, D] in one grouping, (1) to (3) a block of patches at a time."""
        sizes = sizes_of_parts(features.shape[0], self.pseudo_bags)
        member = members_of_parts(order, self.pseudo_bags)                             # [G, N]
        pooled = pooled_pseudo_bags(features, member, self.reduction[0], self.attention)
        return self._tiers(pooled, member, sizes)

    def _tiers(self, bags: PseudoBags, member: Tensor, sizes: list[int]) -> Round:
        """Results of both tiers from the pooled pseudo-bags."""
        b = bags.pooled                                                     # [G, L]
        if self.small_bags == "official":
            b = pad(b, (0, 0, 0, self.pseudo_bags - len(sizes)))            #          empty pseudo-bags are zero rows
        attention = bags.attention.sum(dim=0)                               # [N]      each patch is in one group
        rows = b if self.distillation == "AFS" else self._extremes(bags.h, attention, member, sizes)
        rows = rows.detach()                                                # [M, L]   (4)
        return Round(self.classifier(b), rows, self.tier_two(rows), attention)  #      (5)

    def _extremes(self, h: Tensor, attention: Tensor, member: Tensor, sizes: list[int]) -> Tensor:
        """Rows [M, L] of the patches with most (and for MaxMinS least) evidence in each pseudo-bag.

        It is that of class 1, of the patch's likeliest class, or of its grade, value or risk.
        """
        found = task_evidence(self.outputs, self._instance_logits(h, attention)).squeeze(1)  # [N]
        chosen = []
        for group, size in zip(member, sizes, strict=True):
            kept = min(self.kept, size)
            chosen.append(torch.where(group, found, -torch.inf).topk(kept).indices)
            if self.distillation == "MaxMinS":
                chosen.append(torch.where(group, found, torch.inf).topk(kept, largest=False).indices.flip(0))
        return h[torch.cat(chosen)]

    def _instance_logits(self, h: Tensor, attention: Tensor) -> Tensor:
        """Logits [N, W] of the attention-weighted patches, without bias."""
        return answer_of(self.outputs, attention[:, None] * h @ self.classifier.linear.weight.T)

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Tier-1 attention [R, N], divided by the number of pseudo-bags, the same row for every class; instance scores [R, N]."""
        h = self.reduction(features)                                        # [N, L]
        output = self._output(self._rounds(h, self._orders(features)))
        attention = output.attention.detach()  # type: ignore[union-attr]    # [1, N]
        scores = evidence(self.outputs, self._instance_logits(h.detach(), attention[0])).detach().T  # [R, N]
        maps = (attention / attention.sum()).expand(len(scores), -1)        # [R, N]
        return AttentionMaps(
            "softmax attention inside pseudo-bags", maps, output.logits.detach(),
            is_distribution=True, alternatives={"instance scores": scores},
        )  # fmt: skip

    def _orders(self, features: Tensor) -> list[Tensor]:
        """Orders [N] to group by: in training one random order, in evaluation fixed by N, so that a slide's score is fixed."""
        n = features.shape[0]
        if self.training:
            return [torch.randperm(n, device=features.device)]
        return fixed_orders(n, self.regroupings, features.device)

    def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
        """Sum of the pseudo-bags' mean loss and the slide's, a scalar."""
        tiers = (output.aux["pseudo_logits"], output.aux["slide_logits"])
        if self.outputs.all_binary and not self.smoothing:
            # as written, because gradients of this and of a mean over `task_losses` differ in their last digit
            odds = (log_odds(each) for each in tiers)
            return sum(binary_cross_entropy_with_logits(each, targets.expand_as(each)) for each in odds) * known[0]
        return sum(self.task_losses(answer_of(self.outputs, each), targets).mean() for each in tiers) * known[0]

    def of_stack(self, bags: Sequence[Tensor], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor] | None:
        """Losses [S, B] and logits [S, B, 1] of stacked models, for one grouping into pseudo-bags of one size."""
        if not self._takes_stack(bags):
            return None
        x, tier_two = together(bags), self.tier_two
        n_bags, n, _ = x.shape
        if self.training:
            x = x[torch.arange(n_bags)[:, None], torch.stack([torch.randperm(n) for _ in bags])]
        else:
            x = x[:, fixed_orders(n, 1, x.device)[0]]
        pseudo_bags = x.reshape(n_bags * self.pseudo_bags, -1, x.shape[-1])
        pooled = pooled_stack(pseudo_bags, self.reduction[0], self.attention)       # [S, B G, L]
        pooled = pooled.view(len(pooled), n_bags, -1, pooled.shape[-1])                               # [S, B, G, L]
        pseudo_logits = self.classifier.of_stack(pooled)                                              # [S, B, G, 2]
        rows = pooled.detach().flatten(1, 2)                                                          # [S, B G, L]
        weights = tier_two.attention.of_stack(rows).view(pooled.shape[:3]).softmax(dim=-1)            # [S, B, G]
        slide_logits = tier_two.classifier.of_stack((weights[:, :, None] @ pooled.detach()).squeeze(2))  # [S, B, 2]
        answers = log_odds(slide_logits)[..., None]                                                   # [S, B, 1]
        of_pseudo_bags = self.task_losses(log_odds(pseudo_logits), targets).mean(dim=-1)              # [S, B]
        losses = (of_pseudo_bags + self.task_losses(answers, targets)[..., 0]) * known[..., 0]
        return losses, answers

    def _takes_stack(self, bags: Sequence[Tensor]) -> bool:
        """Whether `of_stack` has the losses of such bags."""
        is_binary = self.outputs.all_binary and self.distillation == "AFS"
        is_one = self.training or self.regroupings == 1
        is_even = len(bags[0]) % self.pseudo_bags == 0
        if not is_binary or not is_one or not is_even or not self._is_usual:
            return False
        is_small = is_small_stack(bags, self.attention.tanh_branch.in_features)
        return is_small and self.classifier.is_usual and self.tier_two.is_usual

    @property
    def _is_usual(self) -> bool:
        """Whether functions of whole layers may take the place of the embedding and the first tier's attention."""
        embed = self.reduction
        is_embedding = is_usual(embed, nn.Sequential) and len(embed) == 2 and are_linear(embed[0], bias=False) and is_relu(embed[1])
        return is_embedding and self.attention.is_usual

    def attention_rows(self) -> tuple[str, ...]:
        """One row: tier-1 attention, which sums to 1 inside each pseudo-bag."""
        return ("tier 1",)

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, **options: Any
    ) -> DTFDMIL:
        """Model in eval mode with the weights of the four official parts, prefixed `classifier.`, `attention.`, ...

        Their two classes are a binary task and more are classes, unless `n_outputs` says what the logits answer.
        """
        hidden, in_features = shape_of(state_dict, "dimReduction.fc1.weight")
        blocks = {name.split(".")[2] for name in state_dict if name.startswith("dimReduction.resBlocks.")}
        width = shape_of(state_dict, "attention.attention_V.0.weight")[0]
        told: dict[str, Any] = {"hidden": hidden, "attention": width, "residual_layers": len(blocks)}
        names = OFFICIAL_NAMES | {f"dimReduction.resBlocks.{i}": f"reduction.{i + 2}" for i in range(len(blocks))}
        outputs = n_outputs or outputs_of_classes(shape_of(state_dict, "classifier.fc.weight")[0])
        return load_official(cls(in_features, outputs, **told | options), state_dict, names)
