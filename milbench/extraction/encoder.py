"""Encoder: tiles to features, by name: `timm:NAME`, `hf-hub:ORG/NAME`, `retccl`, `clam-resnet50`, `resnet50`, or a plug-in's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from milbench.errors import DataError, MilbenchError, UsageError, unknown_name
from milbench.extraction.encoders import resnet50, weights
from milbench.extraction.encoders.network import RANDOM, Asked, Network
from milbench.extraction.encoders.plugin import REGISTERED, plugin_network
from milbench.extraction.encoders.timm_models import PREFIXES, timm_network
from milbench.extraction.transform import Transform

__all__ = ["Encoder", "NotFiniteError", "Transform", "encoder_names", "find_encoder"]


STEADY = 0.01
"""Share of the largest value by which a tile's features may differ from one batch to the next, as rounding to 16 bits does."""


class NotFiniteError(DataError):
    """The features of a tile hold NaN or infinity. `row` is its place in the batch."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True)
class Encoder:
    """A network on a device, in eval mode, with all that decides its features.

    Attributes
    ----------
    name : what `--encoder` got.
    width : D, taken from one forward.
    transform : from a tile to the network's input.
    weights_sha256 : hash of the network's values; empty if they are random, or if a plug-in's function holds them.
    pooling : how places of a tile become one vector.
    weights : where the weights come from.
    """

    name: str
    width: int
    transform: Transform
    weights_sha256: str
    pooling: str
    weights: str
    device: torch.device
    network: Network = field(repr=False)

    def facts(self) -> dict[str, Any]:
        """All that decides the features, as plain values for `features.json`.

        The file that trained weights came from is not among them: their hash is.
        """
        return {
            "encoder": self.name,
            "width": self.width,
            "weights_sha256": self.weights_sha256,
            **({} if self.weights_sha256 else {"weights": self.weights}),
            "pooling": self.pooling,
            "transform": self.transform.facts(),
            **self.network.facts,
        }

    @property
    def is_random(self) -> bool:
        """Whether nobody trained the weights: then a command must say so."""
        return self.weights == RANDOM

    def encode(self, tiles: Tensor) -> Tensor:
        """Features, float32 [B, D] on the CPU, of tiles, uint8 [B, P, P, 3].

        Batches of other sizes give the same features except for rounding.

        Raises
        ------
        NotFiniteError : a tile's features hold NaN or infinity.
        DataError : the encoder fails, or returns no floats [B, D].
        """
        features = encoded(self.name, self.network, tiles.to(self.device), self.width)
        if bad := (~torch.isfinite(features)).any(dim=1).nonzero().flatten().tolist():
            raise NotFiniteError(
                f"encoder '{self.name}' gives NaN or infinite features for {len(bad)} of {len(tiles)} tiles.", bad[0]
            )
        return features


def find_encoder(
    name: str,
    *,
    weights: Path | None,
    pretrained: bool,
    patch_size: int,
    device: torch.device,
    plugin: Path | None = None,
) -> Encoder:
    """The encoder called `name`, on `device`.

    Parameters
    ----------
    weights : file of weights (.pt, .pth, .bin, .safetensors); None = the encoder's own.
    pretrained : False = weights drawn from a fixed seed, for tests.
    patch_size : edge of a tile in pixels.
    plugin : Python file that may register the name.

    Raises
    ------
    UsageError : there is no such encoder, or its weights cannot be had.
    DataError : the weights belong to another network, or a plug-in fails.
    """
    if weights is not None and not pretrained:
        raise UsageError("--weights and --no-pretrained contradict each other. Give one of them.")
    if plugin is not None:
        _import(plugin)
    network = _maker(name)(Asked(name, weights, pretrained, patch_size))
    return _on_device(name, network, patch_size, device)


def encoder_names() -> list[str]:
    """Names that `find_encoder` takes, with patterns for those of timm and Hugging Face."""
    return [*resnet50.KINDS, "timm:NAME", "hf-hub:ORG/NAME", *REGISTERED]


def encoded(name: str, network: Network, tiles: Tensor, width: int | None) -> Tensor:
    """float32 [B, D] on the CPU of tiles on the network's device; `width` is the D that is expected, None = any."""
    if tiles.dtype != torch.uint8 or tiles.ndim != 4 or tiles.shape[-1] != 3:
        raise DataError(f"encoder '{name}' takes tiles uint8 [B, P, P, 3], and got {tiles.dtype} {list(tiles.shape)}.")
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        features = _ran(name, network, network.transform(tiles))
    where = f" ({network.where})" if network.where else ""
    if not isinstance(features, Tensor) or not features.is_floating_point() or features.ndim != 2:
        what = f"{features.dtype} {list(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
        raise DataError(f"encoder '{name}'{where} returns {what}, not floats [B, D]. Pool each tile to one vector.")
    if len(features) != len(tiles) or (width is not None and features.shape[1] != width):
        raise DataError(
            f"encoder '{name}'{where} returns {list(features.shape)} for {len(tiles)} tiles, not [{len(tiles)}, {width or 'D'}]."
        )
    return features.to("cpu", torch.float32)


def _ran(name: str, network: Network, images: Tensor) -> Any:
    """What the network returns; a user's function that fails is named."""
    if not network.where:
        return network.run(images)
    try:
        return network.run(images)
    except (MilbenchError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"encoder '{name}' ({network.where}) fails: {type(error).__name__}: {error}. Fix its file."
        ) from error


def _import(plugin: Path) -> None:
    from milbench.registry import import_plugins

    import_plugins((plugin,))


def _maker(name: str) -> Callable[[Asked], Network]:
    """Function that makes the network of a name."""
    if name.startswith(PREFIXES):
        return timm_network
    if name in resnet50.KINDS:
        return resnet50.resnet50_network
    if name in REGISTERED:
        return plugin_network
    error = unknown_name("encoder", name, encoder_names())
    raise UsageError(f"{error} A model of timm is called timm:NAME, one of the Hugging Face Hub hf-hub:ORG/NAME.")


def _on_device(name: str, network: Network, patch_size: int, device: torch.device) -> Encoder:
    """The encoder of a network, tried on two tiles for its width; a user's must give a tile the same features again."""
    sha256 = ""
    if network.module is not None:
        sha256 = "" if network.weights == RANDOM else weights.sha256(network.module)
        network.module.to(device).eval().requires_grad_(requires_grad=False)
    tiles = _made_up(patch_size).to(device)
    try:
        features = encoded(name, network, tiles[:2], None)
        if network.where:
            _refuse_unsteady(name, network, features, encoded(name, network, tiles[::2], None))
    except (AssertionError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UsageError(
            f"encoder '{name}' does not take tiles of {patch_size} pixels: {error}. Try another --patch."
        ) from error
    return Encoder(
        name, features.shape[1], network.transform, sha256, network.pooling, network.weights, device, network
    )


def _made_up(patch_size: int) -> Tensor:
    """Three tiles uint8 [3, P, P, 3]: stripes, black, white."""
    stripes = (torch.arange(patch_size * patch_size * 3) * 37 % 251).to(torch.uint8).view(patch_size, patch_size, 3)
    return torch.stack([stripes, torch.zeros_like(stripes), torch.full_like(stripes, 255)])


def _refuse_unsteady(name: str, network: Network, beside_black: Tensor, beside_white: Tensor) -> None:
    """DataError if the first tile of two batches got two features: what comes of a slide would depend on chance."""
    one, other = beside_black[0], beside_white[0]
    if not torch.allclose(one, other, rtol=0, atol=STEADY * float(one.nan_to_num().abs().max()), equal_nan=True):
        raise DataError(
            f"encoder '{name}' ({network.where}) gives one tile other features when another tile lies beside it, or each time. "
            "Call .eval() on its network (dropout, batch normalisation), and draw no random numbers."
        )
