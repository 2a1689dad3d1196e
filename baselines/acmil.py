"""ACMIL: several attention rows that are pushed apart, and whose most attended patches are masked at random.

paper    Zhang et al., "Attention-challenging multiple instance learning for whole slide image classification", ECCV 2024
code     dazhangyu123/ACMIL@e53d19c (`ACMIL_GA`)
differs  a binary task's logit is the difference of the official two, so BCE on it is their cross-entropy
         `hidden` is 512 for any width; the official table has about half of the encoder's width (512 of 1,024)
         of equal scores the earlier patch counts as the higher one; the official code leaves that open
         with one token the official code makes its head and never trains it; here there is none
         the rate falls once per epoch; the official code sets it before every step
         the epoch is chosen by AUROC; the official code adds the accuracy, which it calls F1
kinds    every token's head and the slide's have W logits, and all take the task's loss; Cox's loss is taken of the sum of the
         slide's logits and the tokens' mean, which is then the answer
map      the mean over tokens of the softmax attention, which sums to 1, the same row for every class; per token beside it
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from milbench.endpoints.endpoint import KINDS
from milbench.errors import UsageError
from milbench.models import AttentionMaps, BagOutput, MILModel, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers.attention_branches import AttentionBranches, ranked
from milbench_baselines.layers.checkpoint import load_official, outputs_of_classes, shape_of
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.side_by_side import linear_on_own_bags
from milbench_baselines.layers.two_class import answer_of, head_width, refuse_several_tasks

MASKED_SCORE = -1e9

OFFICIAL_RECIPE = {
    "optimizer": "adamw",
    "lr": 1e-4,
    "weight_decay": 1e-5,
    "schedule": "cosine",
    "lr_floor": 0.0,
    "epochs": 50,
    "select_by": "val_auroc",
}

OFFICIAL_NAMES = {
    "dimreduction.fc1": "embed.0",
    "attention.attention_V.0": "attention.tanh_branch",
    "attention.attention_U.0": "attention.sigmoid_branch",
    "attention.attention_weights": "attention.score",
    "Slide_classifier.fc": "head",
}


@register_model(
    "acmil",
    title="ACMIL",
    tasks="single",
    paper="Zhang et al., ECCV 2024",
    official="dazhangyu123/ACMIL@e53d19c",
    official_recipe=OFFICIAL_RECIPE,
    search_space=SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "attention": TimesOneOf(0.5, 1, 2),
            "tokens": Choice(2, 5, 10),
            "mask_drop": Choice(0.0, 0.3, 0.6),
        }
    ),
    kinds=KINDS,
    learns_cox=True,
)
class ACMIL(MILModel):
    """Gated attention with T rows ("tokens"), each with a head of its own, and one head on their mean.

    ::

        h_n = ReLU(W x_n)                                                  (1)
        s_tn = w_t . (tanh(V h_n) * sigmoid(U h_n))                        (2)
        training: of each token's m = min(M, N) highest s_tn, int(m p)
        drawn at random become -1e9                                        (3)
        f_t = sum_n a_tn h_n,  a_t = softmax over n of s_t                 (4)
        token logits = C_t f_t + c_t;  slide logits = C mean_t f_t + c     (5)
        loss = slide's + mean over tokens' + d mean over pairs of tokens
        of the cosine between a_t and a_u                                  (6)

    The answer is the slide's. A binary task has two logits in each head, which the answer subtracts.

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of one task.
    hidden : width of h. Official: 512 of 1,024 features.
    attention : width of V and U. Official: 128.
    tokens : T. Official `n_token`: 5. With 1 the loss is the slide's alone.
    masked_patches : M. Official `n_masked_patch`: 10.
    mask_drop : p; 0 masks nothing. Official: 0.6; its authors advise 0 where training is unstable.
    diversity : d, 0 or more. Official: 1.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        attention: int = 128,
        tokens: int = 5,
        masked_patches: int = 10,
        mask_drop: float = 0.6,
        diversity: float = 1.0,
    ) -> None:
        super().__init__(in_features, n_outputs)
        refuse_several_tasks("ACMIL", self.outputs)
        if tokens < 1 or not 0 <= mask_drop <= 1:
            raise UsageError(f"tokens={tokens}, mask_drop={mask_drop}; expected 1 or more, and a share from 0 to 1.")
        if not 0 <= diversity < inf:
            raise UsageError(f"diversity is {diversity}; expected a weight of 0 or more.")
        self.masked_patches, self.mask_drop, self.diversity = masked_patches, mask_drop, diversity
        width = head_width(self.outputs)
        self.embed = nn.Sequential(Linear(in_features, hidden, bias=False), nn.ReLU())
        self.attention = AttentionBranches(hidden, attention, tokens)
        self.token_heads = nn.ModuleList([Linear(hidden, width) for _ in range(tokens if tokens > 1 else 0)])
        self.head = Linear(hidden, width)

    def forward(self, features: Tensor) -> BagOutput:
        """Logits [W], attention [T, N]; aux as in `forward_masked`. In training the mask is drawn from torch's generator."""
        h = self.embed(features)                                          # [N, H]       (1)
        scores = self.attention(h)                                        # [T, N]       (2)
        return self._output(h, self._masked_at_random(scores))

    def forward_masked(self, features: Tensor, mask: Tensor) -> BagOutput:
        """Output where the patches of `mask` [T, N], bool, are masked, in training and in evaluation.

        Aux: `scores` [T, N], after masking; `token_logits` [T, C] (if T > 1), `slide_logits` [C]; C is 2 of a binary task,
        else W.
        """
        h = self.embed(features)                                          # [N, H]       (1)
        return self._output(h, self.attention(h).masked_fill(mask, MASKED_SCORE))

    def _masked_at_random(self, scores: Tensor) -> Tensor:
        """Scores [T, N] as this pass sees them."""
        tokens, n = scores.shape
        salient = min(self.masked_patches, n)
        dropped = int(salient * self.mask_drop)
        if not self.training or dropped == 0:
            return scores
        drawn = torch.rand(tokens, salient, device=scores.device).argsort(dim=1)[:, :dropped]     # [T, dropped]
        places = ranked(scores)[:, :salient].gather(1, drawn)             # [T, dropped]
        mask = torch.zeros_like(scores).scatter(1, places, 1.0)           # [T, N]
        return scores.masked_fill(mask > 0, MASKED_SCORE)                 #              (3)

    def _output(self, h: Tensor, scores: Tensor) -> BagOutput:
        """Output of embedded patches h [N, H] with scores [T, N]."""
        attention = scores.softmax(dim=1)                                 # [T, N]
        rows = attention @ h                                              # [T, H]       (4)
        aux = {"scores": scores, "slide_logits": self.head(rows.mean(dim=0))}             # (5)
        if self.token_heads:
            aux["token_logits"] = linear_on_own_bags(self.token_heads, rows[:, None]).squeeze(1)  # [T, C]
        return BagOutput(self._answer(aux), attention, aux)

    def _answer(self, aux: Mapping[str, Tensor]) -> Tensor:
        """Logits [W] that are returned."""
        logits = answer_of(self.outputs, aux["slide_logits"])
        if self.outputs.endpoints[0].loss != "cox" or "token_logits" not in aux:
            return logits
        # the derivative that Cox's step hands to each bag is that of the returned logit
        return logits + aux["token_logits"].mean(dim=0)

    def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
        """Sum of the slide's loss, the tokens' mean loss and the likeness of their attention, a scalar."""
        loss = self.task_losses(answer_of(self.outputs, output.aux["slide_logits"]), targets).sum()
        if self.token_heads:
            of_tokens = self.task_losses(answer_of(self.outputs, output.aux["token_logits"]), targets)  # [T, 1]
            alike = mean_cosine(output.attention)  # type: ignore[arg-type]
            loss = loss + of_tokens.mean() + self.diversity * alike       #              (6)
        return loss * known[0]

    def attention_rows(self) -> tuple[str, ...]:
        """One row per token."""
        return tuple(f"token {token}" for token in range(self.attention.score.out_features))

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Mean over tokens of the softmax attention [R, N], the same row for every class; each token's attention."""
        output = self(features)
        attention = output.attention.detach()
        maps = attention.mean(dim=0).expand(len(self.outputs.maps), -1)   # [R, N]
        return AttentionMaps(
            "softmax attention, mean over tokens", maps, output.logits.detach(), is_distribution=True,
            per_expert=attention, experts=self.attention_rows(),
        )  # fmt: skip

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, **options: Any
    ) -> ACMIL:
        """Model in eval mode with the weights of an official `ACMIL_GA`; the head of a single token is left out.

        Its two classes are a binary task and more are classes, unless `n_outputs` says what the logits answer.
        """
        hidden, in_features = shape_of(state_dict, "dimreduction.fc1.weight")
        tokens, attention = shape_of(state_dict, "attention.attention_weights.weight")
        told = {"hidden": hidden, "attention": attention, "tokens": tokens}
        outputs = n_outputs or outputs_of_classes(shape_of(state_dict, "Slide_classifier.fc.weight")[0])
        names = OFFICIAL_NAMES | {f"classifier.{token}.fc": f"token_heads.{token}" for token in range(tokens)}
        kept = {name: t for name, t in state_dict.items() if tokens > 1 or not name.startswith("classifier.0.")}
        return load_official(cls(in_features, outputs, **told | options), kept, names)


def mean_cosine(rows: Tensor) -> Tensor:
    """Mean over all pairs of `rows` [T, N], T > 1, of the cosine of their angle, a scalar."""
    tokens = len(rows)
    unit = normalize(rows, dim=1, eps=1e-8)                               # [T, N]
    cosines = unit @ unit.T                                               # [T, T]
    return (cosines.sum() - cosines.diagonal().sum()) / (tokens * (tokens - 1))
