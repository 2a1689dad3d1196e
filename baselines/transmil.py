"""TransMIL: two layers of Nyström attention over the patches and a class token.

paper    Shao et al., "TransMIL: transformer based correlated MIL", NeurIPS 2021
code     szc19990412/TransMIL@9d6aee5, with nystrom-attention 0.0.14 (`crop="aligned"`) or its pinned 0.0.9 ("legacy")
differs  any feature width (official: 1024)
         a binary task's logit is the difference of the official two, so BCE on it is their cross-entropy
         the second layer computes the class token's row only, because no other row is read
         the three depthwise kernels of PPEG are summed before they are applied (equal up to rounding)
         the official trainer runs in half precision
kinds    the class token's Linear has W logits, of C classes the official C
map      the class token's Nyström attention over the patches in layer 2, mean over heads; a copy's attention is added
         to its patch; it may be slightly negative, and the class token and the padding take a share;
         alternative: gradient x input, sum_d x_nd dlogit/dx_nd, which sees both layers and the convolutions; of other
         kinds the gradient of what speaks for the class, grade, value or risk
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from milbench.endpoints.evidence import evidence
from milbench.models import AttentionMaps, BagOutput, MILModel, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers.checkpoint import load_official, outputs_of_classes, shape_of
from milbench_baselines.layers.depthwise import depthwise
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.landmarks import Plan
from milbench_baselines.layers.nystrom_attention import Crop, NystromAttention
from milbench_baselines.layers.nystrom_layer import LayerParameters, is_one_matrix, small_layer
from milbench_baselines.layers.one_head import is_narrow
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.row_blocks import is_relu
from milbench_baselines.layers.small_bags import is_small_stack, together
from milbench_baselines.layers.small_position import is_small, is_small_grid, placed_small
from milbench_baselines.layers.square_grid import folded, side_of
from milbench_baselines.layers.two_class import answer_of, head_width, refuse_several_tasks
from milbench_baselines.layers.usual import are_dropout, are_linear, convolution, is_usual

OFFICIAL_RECIPE = {
    "optimizer": "lookahead_radam",
    "lr": 2e-4,
    "weight_decay": 1e-5,
    "decay_vectors": False,
    "schedule": "constant",
    "epochs": 200,
    "bags_per_step": 2,
    "select_by": "val_loss",
    "patience": 9,  # official 10: its stopper ends at the tenth epoch without improvement, milbench at epoch `patience` + 1
}

OFFICIAL_NAMES = {
    "_fc1.0": "embed.0",
    "_fc2": "head",
    "cls_token": "class_token",
    "layer1": "layer1",
    "layer2": "layer2",
    "norm": "norm",
    "pos_layer.proj": "position.conv7",
    "pos_layer.proj1": "position.conv5",
    "pos_layer.proj2": "position.conv3",
}


class TransLayer(nn.Module):
    """Tokens [n, H] plus the Nyström attention of the normalised tokens."""

    def __init__(self, attn: NystromAttention, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = attn

    def forward(self, tokens: Tensor, *, rows: Literal[1] | None = None) -> tuple[Tensor, Tensor]:
        """Tokens [rows, H] and attention, as in `NystromAttention.forward`."""
        plan = self.attn.plan(len(tokens), rows=rows)
        if is_one_matrix(tokens, plan) and not is_narrow(tokens, plan) and self._is_usual:
            return self._as_one_matrix(tokens, plan)
        update, attention = self.attn(self.norm(tokens), rows=rows)
        # a slice would cost a gradient of all tokens' size
        before = tokens if rows is None else torch.split(tokens, [rows, len(tokens) - rows])[0]
        return before + update, attention

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take this one's place."""
        return is_usual(self, TransLayer) and self._is_usual

    @property
    def _is_usual(self) -> bool:
        attn, out = self.attn, self.attn.to_out
        has_out = is_usual(out, nn.Sequential) and len(out) == 2 and are_dropout(out[1])
        has_layers = is_usual(attn, NystromAttention) and is_usual(self.norm, nn.LayerNorm)
        return has_out and has_layers and attn.has_usual_projections and are_linear(out[0])

    def _as_one_matrix(self, tokens: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        attn, norm, (out, dropout) = self.attn, self.norm, self.attn.to_out
        n_rows = 1 if plan.first_only else len(tokens)
        mask = dropout.mask((n_rows, tokens.shape[1]), like=tokens) if dropout.draws else None  # type: ignore[operator]
        kernel = tokens.new_zeros(1) if attn.res_conv is None else attn.res_conv.weight[0, 0, :, 0]
        parameters = LayerParameters(norm.weight, norm.bias, attn.to_qkv.weight, kernel, out.weight, out.bias)  # type: ignore[arg-type]
        return small_layer(tokens, mask, parameters, plan, norm.eps)

    def of_stack(self, tokens: Tensor, plan: Plan) -> Tensor:
        """Tokens [S, B, rows, H] of stacked layers, of tokens [S, B, n, H] that are few enough for `small_layer`."""
        attn, norm, (out, dropout) = self.attn, self.norm, self.attn.to_out
        n_models, n_bags, n, width = tokens.shape
        mask = cast(Dropout, dropout).masks(n_bags, (1 if plan.first_only else n, width), like=tokens)
        kernel = tokens.new_zeros(n_models, 1) if attn.res_conv is None else attn.res_conv.weight[:, 0, 0, :, 0]
        own = cast(Any, (norm.weight, norm.bias, attn.to_qkv.weight, kernel, out.weight, out.bias))
        return small_layer(tokens, mask, LayerParameters(*(each[:, None] for each in own)), plan, norm.eps)[0]


PLACES = [convolution((size, size), bias=True, padding=(0, 0)) for size in (7, 5, 3)]
"""Kinds of the position's convolutions."""


class PPEG(nn.Module):
    """Tokens [k k, H] with position: depthwise convolutions with bias are added. The class token is not among them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv7 = nn.Conv2d(width, width, 7, groups=width)
        self.conv5 = nn.Conv2d(width, width, 5, groups=width)
        self.conv3 = nn.Conv2d(width, width, 3, groups=width)

    def forward(self, tokens: Tensor, side: int) -> Tensor:
        """Tokens [k k, H] of a grid of `side` k."""
        if not self.is_usual:
            grid = tokens.T.reshape(1, -1, side, side)                    # [1, H, k, k]
            convs: list[Any] = [self.conv7, self.conv5, self.conv3]       # without a rim of their own
            around = torch.cat([conv(pad(grid, (conv.kernel_size[0] // 2,) * 4)) for conv in convs]).sum(dim=0)
            return tokens + around.flatten(1).T                           # [k k, H]
        kernel = self.conv7.weight + pad(self.conv5.weight, (1,) * 4) + pad(self.conv3.weight, (2,) * 4)  # [H, 1, 7, 7]
        bias: Tensor = self.conv7.bias + self.conv5.bias + self.conv3.bias  # type: ignore[operator]
        return tokens + (depthwise([tokens], [kernel], side)[0] + bias)   # [k k, H]

    @property
    def is_usual(self) -> bool:
        """Whether one kernel may take the place of the three convolutions."""
        return all(map(is_usual, (self.conv7, self.conv5, self.conv3), PLACES))

    def kernels_and_biases(self) -> list[Any]:
        """Kernel [H, 1, s, s] and bias [H] of each size, the largest first."""
        return [each for conv in (self.conv7, self.conv5, self.conv3) for each in (conv.weight, conv.bias)]


def behind_token(position: nn.Module, tokens: Tensor, side: int) -> Tensor:
    """Tokens [1 + k k, H] of which all but the first, the class token, get their position."""
    if is_small(tokens, side) and is_usual(position, PPEG) and cast(PPEG, position).is_usual:
        return placed_small(tokens, cast(PPEG, position).kernels_and_biases(), side)
    token, grid = torch.split(tokens, [1, side * side])                   # the gradient of a slice would be as large as h
    return torch.cat((token, position(grid, side)))


@register_model(
    "transmil",
    title="TransMIL",
    tasks="single",
    study=True,
    paper="Shao et al., NeurIPS 2021",
    official="szc19990412/TransMIL@9d6aee5",
    order_matters=True,
    official_recipe=OFFICIAL_RECIPE,
    search_space=SearchSpace(model={"hidden": TimesOneOf(0.5, 1, 2), "dropout": Choice(0.0, 0.1, 0.25, 0.5)}),
)
class TransMIL(MILModel):
    """Two layers of attention between patches, which lie on a square in their given order.

    With k = ceil(sqrt N)::

        h = ReLU(W x + b), its first k k - N rows copied to the end, a class token in front    (1)
        h <- h + Nyström attention(LayerNorm h)                                                (2)
        h <- h + depthwise 7x7, 5x5, 3x3 convolutions of the k x k grid (PPEG)                 (3)
        h <- h + Nyström attention(LayerNorm h)                                                (4)
        logits = Linear(LayerNorm h_class)                                                     (5)

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of one task.
    hidden : width of all tokens. Official: 512.
    heads : of both attentions; each has width `hidden // heads`. Official: 8.
    landmarks : of both attentions. None: `hidden // 2`. Official: 256.
    dropout : after each attention. Official: 0.1.
    iterations, value_residual, crop : see `NystromAttention`. Official: 6, 33, and "legacy" (its pinned version).
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        heads: int = 8,
        landmarks: int | None = None,
        dropout: float = 0.1,
        iterations: int = 6,
        value_residual: int = 33,
        crop: Crop = "aligned",
    ) -> None:
        super().__init__(in_features, n_outputs)
        refuse_several_tasks("TransMIL", self.outputs)
        self.embed = nn.Sequential(Linear(in_features, hidden), nn.ReLU())
        self.class_token = nn.Parameter(torch.randn(1, 1, hidden))
        self.layer1, self.layer2 = (
            TransLayer(
                NystromAttention(
                    hidden,
                    heads=heads,
                    landmarks=hidden // 2 if landmarks is None else landmarks,
                    iterations=iterations,
                    dropout=dropout,
                    value_residual=value_residual,
                    crop=crop,
                ),
                hidden,
            )
            for _ in range(2)
        )
        self.position = PPEG(hidden)
        self.norm = nn.LayerNorm(hidden)
        self.head = Linear(hidden, head_width(self.outputs))

    def forward(self, features: Tensor) -> BagOutput:
        """Logits [W], the class token's attention in layer 2 [heads, N]; aux `head_logits` and the tokens between."""
        n = features.shape[0]
        side = side_of(n)                                                 # k = ceil(sqrt N)
        h = self.embed(features)                                          # [N, H]
        copies = [h[: side * side - n]] if side * side > n else []        # an empty slice would cost a gradient of h's size
        h = torch.cat((self.class_token[0], h, *copies))                  # [1 + k k, H]  (1)
        first, _ = self.layer1(h)                                         # [1 + k k, H]  (2)
        h = behind_token(self.position, first, side)                      # [1 + k k, H]  (3)
        token, attention = self.layer2(h, rows=1)                         # [1, H], [heads, 1 + k k]
        bag = self.norm(token)[0]                                         # [H]           (4)
        head_logits = self.head(bag)                                      # [2] or [W]    (5)
        aux = {"head_logits": head_logits, "after_layer1": first, "after_position": h, "bag": bag}
        return BagOutput(answer_of(self.outputs, head_logits), folded(attention[:, 1:], n), aux)

    def of_stack(self, bags: Sequence[Tensor], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor] | None:
        """Losses [S, B] and logits [S, B, W] of stacked models: `forward` on all their bags at once."""
        n, width = len(bags[0]), self.norm.normalized_shape[0]
        side, attns = side_of(n), (self.layer1.attn, self.layer2.attn)
        plans = attns[0].plan(1 + side * side, rows=None), attns[1].plan(1 + side * side, rows=1)
        is_small = is_small_stack(bags, width) and is_small_grid(width, side) and self._is_usual
        like = bags[0].new_empty(1 + side * side, width)
        if not is_small or not self.outputs.all_binary or not all(is_one_matrix(like, plan) for plan in plans):
            return None
        x, (embed, _) = together(bags), cast(Any, self.embed)             # [B, N, D]
        rows = x.flatten(0, 1).expand(len(embed.weight), -1, -1)          # [S, B N, D]
        h = torch.baddbmm(embed.bias[:, None], rows, embed.weight.mT).relu_().view(len(rows), *x.shape[:2], width)
        copies = [h[:, :, : side * side - n]] if side * side > n else []
        token = self.class_token.expand(-1, len(x), -1, -1)               # [S, B, 1, H]
        h = torch.cat((token, h, *copies), dim=2)                         # [S, B, 1 + k k, H]  (1)
        h = self.layer1.of_stack(h, plans[0])                             # [S, B, 1 + k k, H]  (2)
        h = placed_small(h, self.position.kernels_and_biases(), side)     # [S, B, 1 + k k, H]  (3)
        token = self.layer2.of_stack(h, plans[1])[:, :, 0]                # [S, B, H]
        normal = layer_norm(token, (width,), eps=self.norm.eps)
        bag = torch.addcmul(self.norm.bias[:, None], normal, self.norm.weight[:, None])  # [S, B, H]  (4)
        head_logits = torch.baddbmm(self.head.bias[:, None], bag, self.head.weight.mT)   # [S, B, 2]  (5)
        logits = answer_of(self.outputs, head_logits)
        return (self.task_losses(logits, targets) * known).sum(dim=-1), logits

    @property
    def _is_usual(self) -> bool:
        """Whether functions of whole layers may take the place of all layers."""
        embed, position = self.embed, self.position
        has_embedding = is_usual(embed, nn.Sequential) and len(embed) == 2 and are_linear(embed[0]) and is_relu(embed[1])
        has_layers = all(is_usual(layer, TransLayer) and layer.is_usual for layer in (self.layer1, self.layer2))
        has_place = is_usual(position, PPEG) and position.is_usual
        return has_embedding and has_layers and has_place and is_usual(self.norm, nn.LayerNorm) and are_linear(self.head)

    def attention_rows(self) -> tuple[str, ...]:
        """One row per head of layer 2. Nyström's approximation may be slightly negative."""
        return tuple(f"head {head}" for head in range(self.layer2.attn.heads))

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Attention [R, N] of the class token, mean over heads, the same row for every class; alternative: gradient x input."""
        with torch.enable_grad():  # also if the caller has switched gradients off
            x = features.detach().requires_grad_()                        # [N, D]
            output = self(x)
            speaking = evidence(self.outputs, output.logits)              # [R]
            gradients = [torch.autograd.grad(each, x, retain_graph=True)[0] for each in speaking]  # R of [N, D]
        influence = torch.stack([(gradient * x.detach()).sum(dim=1) for gradient in gradients])    # [R, N]
        heads = output.attention.detach()                                 # [heads, N]
        return AttentionMaps(
            "Nyström attention of the class token", heads.mean(dim=0).expand(len(speaking), -1), output.logits.detach(),
            per_expert=heads, experts=self.attention_rows(), alternatives={"gradient x input": influence},
        )  # fmt: skip

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, **options: Any
    ) -> TransMIL:
        """Model in eval mode with the weights of an official `TransMIL`.

        Its two classes are a binary task and more are classes, unless `n_outputs` says what the logits answer.
        """
        hidden, in_features = shape_of(state_dict, "_fc1.0.weight")
        told: dict[str, Any] = {"hidden": hidden, "value_residual": 0}
        if "layer1.attn.res_conv.weight" in state_dict:
            heads, _, length, _ = shape_of(state_dict, "layer1.attn.res_conv.weight")
            told |= {"heads": heads, "value_residual": length}
        outputs = n_outputs or outputs_of_classes(shape_of(state_dict, "_fc2.weight")[0])
        return load_official(cls(in_features, outputs, **{**told, **options}), state_dict, OFFICIAL_NAMES)
