"""Small encoders, tiles and files of weights for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from milbench.extraction.encoder import Encoder, find_encoder

CPU = torch.device("cpu")


def find(name: str, **changes: Any) -> Encoder:
    """The encoder, of fixed random weights unless `changes` say otherwise, for tiles of 64 pixels."""
    asked = {"weights": None, "pretrained": "weights" in changes, "patch_size": 64, "device": CPU, **changes}
    return find_encoder(name, **asked)


def tiles(n: int, edge: int = 64, seed: int = 0) -> Tensor:
    """n tiles of noise, uint8 [n, edge, edge, 3]."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, edge, edge, 3), dtype=torch.uint8, generator=draws)


def random_model(name: str, seed: int = 1, **options: Any) -> nn.Module:
    """A timm model in eval mode; what batch normalisation remembers is random too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(name, pretrained=False, **options).eval()
        for key, value in model.state_dict().items():
            if key.endswith(("running_mean", "running_var")):
                value.uniform_(0.5, 1.5)
    return model


def save(model: nn.Module, path: Path, prefix: str = "") -> Path:
    """The file of a model's weights, their names below a prefix."""
    torch.save({f"{prefix}{key}": value for key, value in model.state_dict().items()}, path)
    return path
