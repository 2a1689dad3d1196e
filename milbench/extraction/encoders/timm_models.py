"""timm models: `timm:NAME`, with trained weights, a file of weights or a fixed seed; `hf-hub:ORG/NAME` likewise.

Patch tokens are pooled here: `timm:NAME?pool=patches`. `?pool=class` takes the class token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from milbench.errors import UsageError
from milbench.extraction.encoders import weights
from milbench.extraction.encoders.library import HUB, create
from milbench.extraction.encoders.network import RANDOM, Asked, Network
from milbench.extraction.encoders.pooling import pooled
from milbench.extraction.transform import IMAGENET_MEAN, IMAGENET_STD, Transform, fitting

TIMM = "timm:"
PREFIXES = (TIMM, HUB)


def timm_network(asked: Asked) -> Network:
    """The network of a name that starts with "timm:" or "hf-hub:".

    Raises
    ------
    UsageError : there is no such model or pooling, or its weights cannot be had.
    DataError : the file of weights belongs to another network.
    """
    name, pool = _parts(asked.name)
    model = create(name.removeprefix(TIMM), pretrained=asked.pretrained and asked.weights is None)
    run, pooling = pooled(model, pool, name)
    facts: Mapping[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    note = "" if asked.weights is None else weights.load(model, asked.weights, name, _classifiers(facts))
    transform = _transform(model, facts, asked, name)
    known = {"network": _architecture(facts, asked)}
    return Network(run, model, transform, pooling, origin(asked, "timm"), known, note=note)


def _architecture(facts: Mapping[str, Any], asked: Asked) -> str:
    """Timm's name of the network, and the tag of its weights if they are timm's."""
    names = [str(facts.get("architecture", "")), str(facts.get("tag") or "")]
    return ".".join(filter(None, names[: 2 if origin(asked, "timm") == "timm" else 1]))


def origin(asked: Asked, own: str) -> str:
    """Where weights come from, in words: a file, a fixed seed, or `own`."""
    if asked.weights is not None:
        return f"file {asked.weights.name}"
    return own if asked.pretrained else RANDOM


def _parts(name: str) -> tuple[str, str]:
    """Name of the model, and the pooling after a question mark; raises UsageError for another option."""
    model, mark, query = name.partition("?")
    key, _, pool = query.partition("=")
    if mark and (key != "pool" or not pool):
        raise UsageError(
            f"encoder '{name}' has the unknown option '{query}'. Use {model}?pool=class or {model}?pool=patches."
        )
    return model, pool


def _transform(model: nn.Module, facts: Mapping[str, Any], asked: Asked, name: str) -> Transform:
    """Mean and standard deviation of the trained weights. A tile is resized only if the network takes one size alone.

    A ViT could stretch its position embeddings to another size instead. That makes another network: features of a stretched
    ViT differ from those that its authors trained and report, so the tile is resized.
    """
    _, height, width = facts.get("input_size", (3, 224, 224))
    is_fixed = bool(facts.get("fixed_input_size")) or getattr(model, "pos_embed", None) is not None
    if is_fixed and height != width:
        raise UsageError(
            f"{name} takes images of {width} x {height} pixels, and tiles are square. Choose another encoder."
        )
    interpolation = "bilinear" if facts.get("interpolation") == "bilinear" else "bicubic"
    mean, std = facts.get("mean", IMAGENET_MEAN), facts.get("std", IMAGENET_STD)
    return fitting(height if is_fixed else None, asked.patch_size, interpolation, tuple(mean), tuple(std))


def _classifiers(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the modules that classify."""
    names = facts.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)
