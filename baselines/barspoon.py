"""barspoon: a transformer encoder over the patches, and a decoder with one class token per task.

paper    none that the repository names; STAMP ships the same model
code     LocalToasty/barspoon-transformer@276d288, `EncDecTransformer`; KatherLab/STAMP@c54ce06 has the same forward
differs  places are in edges of a patch, and their angles are computed in float64
         a binary task's logit is the difference of the official two, so BCE on it is their cross-entropy
         no bag is padded: official zero rows at place (0, 0) take part in the attention
         class weights N / (2 n_c) are the official (n / n_c) / sum(n / n_c) times one number per task
         each part of the model has its own gradient norm clipped; the official code clips that of the whole
         in evaluation every patch is seen, as in STAMP; the official code takes copies of one patch instead
         products are float32 unless `--precision` says otherwise; the official code lets a GPU round them
         one task is allowed
         attention weights are made for a few patches at a time and again in the backward (equal up to rounding)
kinds    a task's head has its logits, of C classes the official C
map      the attention of a task's class token to the patches in the last decoder layer, mean over heads, which sums to 1
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from milbench.errors import CheckpointError, UsageError
from milbench.layout import Layout
from milbench.models import AttentionMaps, BagOutput, MILModel, Sharing, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers.checkpoint import load_official, outputs_of_classes, shape_of
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.full_attention import full_attention, full_weights
from milbench_baselines.layers.options import refuse_uneven_heads
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.two_class import answers_of_tasks, task_widths

OFFICIAL_RECIPE = {
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 0.0,
    "schedule": "constant",
    "epochs": 256,
    "bags_per_step": 32,
    "bag_patches": 4096,
    "class_weights": "balanced",
    "clip_norm": 0.5,
    "select_by": "val_loss",
    "patience": 15,  # official 16: its stopper ends at the 16th epoch without improvement, milbench at epoch `patience` + 1
}

LONGEST = 100_000.0
"""Wavelength, over 2 pi, that the position code's frequencies would reach at the full width."""


class Attention(nn.Module):
    """Multi-head attention with torch's parameters and initialisation."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = Linear(width, 3 * width)
        self.out_proj = Linear(width, width)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def of_itself(self, rows: Tensor) -> Tensor:
        """Results [n, H] of the attention of rows [n, H] to each other."""
        q, k, v = self._by_head(self.in_proj(rows), 3)                             # [heads, n, d]
        return self._joined(full_attention(q, k, v, self.dropout))

    def of_others(self, rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Results [n, H] of the attention of a few rows [n, H] to others [N, H], and its weights [heads, n, N]."""
        width = rows.shape[-1]
        weight, bias = self.in_proj.weight, self.in_proj.bias
        (q,) = self._by_head(linear(rows, weight[:width], bias[:width]), 1)        # [heads, n, d]
        k, v = self._by_head(linear(others, weight[width:], bias[width:]), 2)      # [heads, N, d]
        weights = full_weights(q, k)
        return self._joined(self.dropout(weights).to(v.dtype) @ v), weights

    def _by_head(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """`parts` tensors [heads, n, d] of projected rows [n, parts H]."""
        return projected.reshape(len(projected), parts, self.heads, -1).permute(1, 2, 0, 3).unbind()

    def _joined(self, mixed: Tensor) -> Tensor:
        return self.out_proj(mixed.transpose(0, 1).flatten(1))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Rows [n, H] of rows [n, H]: Linear, ReLU, Dropout, Linear, Dropout."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.linear1, self.linear2 = Linear(width, inner), Linear(inner, width)
        self.dropout = Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows [n, H] of rows [n, H]."""
        return self.dropout(self.linear2(self.dropout(self.linear1(rows).relu())))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward of patches, each of normalised rows and added to them."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, inner, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        """Rows [N, H] of rows [N, H]."""
        h = h + self.dropout(self.attention.of_itself(self.norm1(h)))
        return h + self.feed_forward(self.norm2(h))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Class tokens attend to each other, then to the patches, then a feed-forward; each of normalised tokens and added."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attention = Attention(width, heads, dropout)
        self.cross_attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, inner, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [T, H] of tokens [T, H] and patches [N, H], and their attention to the patches [heads, T, N]."""
        tokens = tokens + self.dropout(self.attention.of_itself(self.norm1(tokens)))
        found, weights = self.cross_attention.of_others(self.norm2(tokens), h)
        tokens = tokens + self.dropout(found)
        return tokens + self.feed_forward(self.norm3(tokens)), weights


def position_code(coords: Tensor, width: int) -> Tensor:
    """Code [N, H], float64, of places [N, 2]: sines of x and of y, then their cosines, each at H / 4 frequencies.

    In float32 the sine of a large angle loses digits: 2e-2 of a logit for places around 10,000.
    """
    i = torch.arange(width // 4, dtype=torch.float64, device=coords.device)
    angles = coords.double()[..., None] / LONGEST ** (i / width)  # [N, 2, H / 4]
    return torch.cat([angles.sin().flatten(-2), angles.cos().flatten(-2)], dim=-1)


@register_model(
    "barspoon",
    title="barspoon",
    tasks="multi",
    official="LocalToasty/barspoon-transformer@276d288",
    official_recipe=OFFICIAL_RECIPE,
    needs_coords=True,
    sharing=Sharing("all but a query per task", step=8),
    search_space=SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "feed_forward": TimesOneOf(0.25, 0.5, 1),
            "dropout": Choice(0.0, 0.1, 0.25, 0.5),
        }
    ),
)
class Barspoon(MILModel):
    """Two encoder layers over the patches, two decoder layers over one class token per task.

    With p(x, y) the sines and cosines of a patch's place::

        h = ReLU(W x + b) + p(x, y)                                          (1)
        h <- h + attention(LayerNorm h), h <- h + feed-forward(LayerNorm h)  (2)
        c <- c + attention of the tokens to each other (LayerNorm c)         (3)
        c <- c + attention of LayerNorm c to h                               (4)
        c <- c + feed-forward(LayerNorm c)                                   (5)
        logits of task t = Linear_t(c_t)                                     (6)

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of T tasks.
    hidden : width of all rows, a multiple of `heads`, and of 4 if `positions`. Official: 512.
    heads : of all attentions. Official: 8.
    feed_forward : inner width of all feed-forwards. Official: 2,048.
    encoder_layers, decoder_layers : official 2 and 2. Layers of a stack start with the same weights.
    dropout : of attention weights, after each attention and in each feed-forward. Official: 0.1.
    positions : whether patches know their places. Official: yes.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        heads: int = 8,
        feed_forward: int = 2048,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        dropout: float = 0.1,
        positions: bool = True,
    ) -> None:
        super().__init__(in_features, n_outputs)
        refuse_uneven_heads(hidden, heads)
        if positions and hidden % 4:
            raise UsageError(f"a position code needs a width that is a multiple of 4; got hidden={hidden}.")
        self.positions = positions
        self.embed = nn.Sequential(Linear(in_features, hidden), nn.ReLU())
        self.encoder = _copies(EncoderLayer(hidden, heads, feed_forward, dropout), encoder_layers)
        self.decoder = _copies(DecoderLayer(hidden, heads, feed_forward, dropout), decoder_layers)
        self.class_tokens = nn.Parameter(torch.rand(self.n_tasks, hidden))
        self.heads = nn.ModuleList(Linear(hidden, width) for width in task_widths(self.outputs))

    def forward(self, features: Tensor, layout: Layout) -> BagOutput:  # type: ignore[override]
        """Logits [W], attention [T, N] of the class tokens; aux `head_logits` [2 per binary task, else as W]."""
        h = self.embed(features)                                              # [N, H]       (1)
        if self.positions:
            h = h + position_code(layout.coords, h.shape[-1]).to(h.dtype)
        for layer in self.encoder:
            h = layer(h)                                                      # [N, H]       (2)
        tokens = self.class_tokens                                            # [T, H]
        for layer in self.decoder:
            tokens, weights = layer(tokens, h)                                # [T, H], [heads, T, N]  (3) to (5)
        logits = [head(tokens[task]) for task, head in enumerate(self.heads)]  # T of [2] or [C]       (6)
        answer = answers_of_tasks(self.outputs, logits)                       # [W]
        return BagOutput(answer, weights.mean(dim=0), {"head_logits": torch.cat(logits)})

    def attention_rows(self) -> tuple[str, ...]:
        """One row per task."""
        return tuple(f"task {task}" for task in range(self.n_tasks))

    def attention_maps(self, features: Tensor, layout: Layout) -> AttentionMaps:  # type: ignore[override]
        """Attention [R, N] of each task's class token, the same row for every class of a task."""
        output = self(features, layout)
        own = [task for task, _ in self.outputs.maps]
        return AttentionMaps(
            "attention of the class token", output.attention.detach()[own], output.logits.detach(), is_distribution=True
        )

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, targets: Sequence[str] | None = None,
        **options: Any,
    ) -> Barspoon:
        """Model in eval mode with the weights of an official `LitEncDecTransformer` or its `EncDecTransformer`.

        Parameters
        ----------
        n_outputs : what the logits answer. None: a head of two logits is a binary task, one of more has classes.
        targets : official name of each task, in the order of the tasks. None: the order of the heads in the checkpoint.
        """
        given = {name.removeprefix("model."): tensor for name, tensor in state_dict.items()}
        names = _targets(given) if targets is None else [re.sub(r"\W", "_", name, flags=re.ASCII) for name in targets]
        hidden, in_features = shape_of(given, "projector.0.weight")
        told = {
            "hidden": hidden,
            "feed_forward": shape_of(given, "transformer_encoder.layers.0.linear1.weight")[0],
            "encoder_layers": _n_layers(given, "encoder"),
            "decoder_layers": _n_layers(given, "decoder"),
        }
        outputs = n_outputs or outputs_of_classes(*(shape_of(given, f"heads.{name}.weight")[0] for name in names))
        model = cls(in_features, outputs, **{**told, **options})
        for name in names:
            shape = shape_of(given, f"class_tokens.{name}")
            if shape != (hidden,):
                raise CheckpointError(f"'class_tokens.{name}' has shape {shape}, expected {(hidden,)}.")
        given["class_tokens"] = torch.stack([given.pop(f"class_tokens.{name}") for name in names])
        return load_official(model, given, _official_names(names, told["encoder_layers"], told["decoder_layers"]))


def _copies(layer: nn.Module, count: int) -> nn.ModuleList:
    return nn.ModuleList(copy.deepcopy(layer) for _ in range(count))


def _targets(given: Mapping[str, Tensor]) -> list[str]:
    """Official names of the tasks, in the order of their heads."""
    found = [parts[1] for parts in (name.split(".") for name in given) if parts[0] == "heads"]
    if not found:
        raise CheckpointError("the checkpoint has no tensor 'heads.TARGET.weight'. Give the state dict of the official model.")
    return list(dict.fromkeys(found))


def _n_layers(given: Mapping[str, Tensor], stack: str) -> int:
    return len({name.split(".")[2] for name in given if name.startswith(f"transformer_{stack}.layers.")})


def _official_names(targets: Sequence[str], n_encoder: int, n_decoder: int) -> dict[str, str]:
    """Our name of every official name or prefix."""
    names = {"projector.0": "embed.0", "class_tokens": "class_tokens"}
    names |= {f"heads.{target}": f"heads.{task}" for task, target in enumerate(targets)}
    for stack, count in (("encoder", n_encoder), ("decoder", n_decoder)):
        for layer in range(count):
            theirs, ours = f"transformer_{stack}.layers.{layer}", f"{stack}.{layer}"
            for official, own in (("self_attn", "attention"), ("multihead_attn", "cross_attention")):
                names |= {
                    f"{theirs}.{official}.in_proj_weight": f"{ours}.{own}.in_proj.weight",
                    f"{theirs}.{official}.in_proj_bias": f"{ours}.{own}.in_proj.bias",
                    f"{theirs}.{official}.out_proj": f"{ours}.{own}.out_proj",
                }
            names |= {f"{theirs}.norm{i}": f"{ours}.norm{i}" for i in (1, 2, 3)}
            names |= {f"{theirs}.linear{i}": f"{ours}.feed_forward.linear{i}" for i in (1, 2)}
    return names
