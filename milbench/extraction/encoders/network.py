"""Network: what each kind of encoder hands over, and what a command asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from milbench.extraction.transform import Transform
from milbench.formats import declared

RANDOM = f"{declared.RANDOM}: drawn from a fixed seed, not trained. The features mean nothing. For tests only."
"""Origin of weights that nobody trained, as `features.json` states it."""


@dataclass(frozen=True)
class Asked:
    """What a command says about its encoder.

    Attributes
    ----------
    name : as the command gave it, such as "timm:vit_small_patch16_224?pool=patches".
    weights : file of weights; None = the encoder's own.
    pretrained : False = weights drawn from a fixed seed.
    patch_size : edge of a tile in pixels.
    """

    name: str
    weights: Path | None
    pretrained: bool
    patch_size: int


@dataclass(frozen=True)
class Network:
    """A network with its weights, on the CPU.

    Attributes
    ----------
    run : float32 images [B, 3, S, S] to features [B, D].
    module : that holds the weights; None for a plain function.
    transform : from tiles to images.
    pooling : how places of a tile become one vector.
    weights : where the weights come from.
    facts : more for the folder's `features.json`.
    where : file and name of a user's function, for messages; empty for milbench's own.
    note : what is to be said of the weights.
    """

    run: Callable[[Tensor], Any]
    module: nn.Module | None
    transform: Transform
    pooling: str
    weights: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    note: str = ""
