"""Transform: what is done to a tile before an encoder sees it; stored beside the features."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Colours = tuple[float, float, float]

IMAGENET_MEAN: Colours = (0.485, 0.456, 0.406)
IMAGENET_STD: Colours = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Transform:
    """From a tile's bytes to a network's input. The whole tile is kept: nothing is cropped.

    Attributes
    ----------
    size : edge in pixels that tiles are resized to; None = as they are.
    interpolation : how they are resized: "bicubic" or "bilinear", with antialias; "" = not at all.
    mean, std : of red, green and blue, on a scale from 0 to 1.
    """

    size: int | None = None
    interpolation: str = ""
    mean: Colours = (0.0, 0.0, 0.0)
    std: Colours = (1.0, 1.0, 1.0)

    def facts(self) -> dict[str, Any]:
        """The transform as plain values for JSON."""
        resized = "the whole tile, resized with antialias" if self.size else "the whole tile, as it is"
        return {
            **asdict(self),
            "mean": list(self.mean),
            "std": list(self.std),
            "tile": f"{resized}, from 0 to 1, then (tile - mean) / std",
        }

    def __call__(self, tiles: Tensor) -> Tensor:
        """float32 [B, 3, S, S] of tiles, uint8 [B, P, P, 3], on their device."""
        images = tiles.permute(0, 3, 1, 2).to(
            torch.float32, memory_format=torch.contiguous_format
        )  # [B, 3, P, P], a copy
        images.div_(255)  # here and below in place: a batch is large, and fresh memory costs more than the arithmetic
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            images = functional.interpolate(
                images, (self.size, self.size), mode=self.interpolation, antialias=True, align_corners=False
            ).clamp(0, 1)  # bicubic curves overshoot; an image of bytes could not
        return images.sub_(self._colours(self.mean, images)).div_(self._colours(self.std, images))

    def _colours(self, values: Colours, images: Tensor) -> Tensor:
        return torch.tensor(values, dtype=images.dtype, device=images.device).view(3, 1, 1)


def fitting(edge: int | None, patch_size: int, interpolation: str, mean: Colours, std: Colours) -> Transform:
    """Transform of tiles with an edge of `patch_size` pixels for a network that takes images of `edge` pixels; None = any."""
    if edge is None or edge == patch_size:
        return Transform(mean=mean, std=std)
    return Transform(edge, interpolation, mean, std)
