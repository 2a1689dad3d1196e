"""Pooling: how the places of a tile, patch tokens or a feature map, become one vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from milbench.errors import UsageError

POOLS = ("class", "patches")

NAMES = {"token": "class token", "avg": "average pool", "map": "attention pool", "max": "max pool"}
"""What timm calls pooling, in words."""


class Pooled(NamedTuple):
    """A network from images [B, 3, S, S] to vectors [B, D], and the pooling in words."""

    run: Callable[[Tensor], Any]
    name: str


def pooled(model: nn.Module, pool: str, name: str) -> Pooled:
    """The timm model `model`, called `name`, with a pooling: "" (its own), "class" or "patches".

    timm's `global_pool="avg"` is never used: with weights that were trained with a class token, it replaces the trained last
    normalisation by one that is not trained (timm 1.0.31).

    Raises
    ------
    UsageError : the model has no such pooling.
    """
    if not pool:
        return Pooled(model, _own_name(model, name))
    if pool == "patches":
        return Pooled(lambda images: _mean_of_places(model, model.forward_features(images)), "mean of patch tokens")  # type: ignore[operator]
    if pool == "class":
        if getattr(model, "cls_token", None) is None:
            raise UsageError(f"{name} has no class token. Leave ?pool=class out, or use ?pool=patches.")
        return Pooled(lambda images: _normalised(model, model.forward_features(images)[:, 0]), "class token")  # type: ignore[operator]
    raise UsageError(f"unknown pooling '{pool}'. Use ?pool={' or ?pool='.join(POOLS)}, or none for the model's own.")


def _mean_of_places(model: nn.Module, places: Tensor) -> Tensor:
    """[B, D] of tokens [B, N, D], the leading ones left out, or of a map [B, D, H, W] (Swin's: [B, H, W, D])."""
    if places.ndim == 3:
        return _normalised(model, places[:, getattr(model, "num_prefix_tokens", 0) :].mean(dim=1))
    is_channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    return places.mean(dim=(1, 2) if is_channels_last else (2, 3))


def _normalised(model: nn.Module, vectors: Tensor) -> Tensor:
    """Vectors after the normalisation that some ViTs apply after pooling; others have normalised all tokens before."""
    norm = getattr(model, "fc_norm", None)
    return vectors if norm is None else norm(vectors)


def _own_name(model: nn.Module, name: str) -> str:
    """The model's own pooling in words.

    Raises
    ------
    UsageError : it has none, and gives all places of a tile.
    """
    if hasattr(model, "dist_token"):
        return "mean of class and distillation token"
    owner = model if hasattr(model, "global_pool") else getattr(model, "head", None)
    own = getattr(owner, "global_pool", None)
    kind = getattr(own, "pool_type", own)
    if kind == "":
        raise UsageError(
            f"{name} gives all places of a tile. Choose {' or '.join(f'{name}?pool={pool}' for pool in POOLS)}."
        )
    if kind == "avg" and getattr(model, "num_prefix_tokens", None) is not None:
        return "mean of patch tokens"
    return NAMES.get(str(kind), f"the model's own{f' ({kind})' if isinstance(kind, str) else ''}")
