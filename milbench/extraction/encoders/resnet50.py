"""ResNet-50: RetCCL's (2048-d), CLAM's (third block, 1024-d) and that of any checkpoint (2048-d).

The table "Encoders" in docs/features.md says what each is, how it differs from torchvision's, and where that is stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from milbench.errors import UsageError
from milbench.extraction.encoders import weights
from milbench.extraction.encoders.library import create
from milbench.extraction.encoders.network import Asked, Network
from milbench.extraction.encoders.timm_models import origin
from milbench.extraction.transform import IMAGENET_MEAN, IMAGENET_STD, fitting

PLAIN, TRAINED = "resnet50", "resnet50.tv_in1k"
"""timm's names of the network, and of the same with torchvision's first ImageNet weights."""

RETCCL_PAGE = "https://github.com/Xiyue-Wang/RetCCL"


class Kind(NamedTuple):
    """One ResNet-50.

    Attributes
    ----------
    title : in messages.
    blocks : how many of the four blocks are used.
    edge : edge that tiles are resized to, as the authors do; None = as they are.
    without : what to say if no weights are given; empty = torchvision's are taken.
    """

    title: str
    blocks: int = 4
    edge: int | None = None
    without: str = ""


KINDS: Mapping[str, Kind] = {
    "retccl": Kind(
        "RetCCL's ResNet-50",
        edge=256,
        without=f"Download best_ckpt.pth from the link on {RETCCL_PAGE} (academic use) and give it: --weights best_ckpt.pth.",
    ),
    "clam-resnet50": Kind("CLAM's ResNet-50 (three blocks)", blocks=3),
    "resnet50": Kind(
        "ResNet-50",
        without="Give a file after --weights. For torchvision's ImageNet weights use --encoder timm:resnet50.tv_in1k.",
    ),
}


def resnet50_network(asked: Asked) -> Network:
    """The network of a name in `KINDS`.

    Raises
    ------
    UsageError : no weights are given for one that needs them, or they cannot be downloaded.
    DataError : the file of weights belongs to another network.
    """
    kind = KINDS[asked.name]
    needs_file = asked.pretrained and asked.weights is None
    if needs_file and kind.without:
        raise UsageError(f"encoder '{asked.name}' comes without weights. {kind.without}")
    model = _cut(create(TRAINED if needs_file else PLAIN, pretrained=needs_file), kind.blocks)
    heads = ("layer4",) if kind.blocks == 3 else ()
    note = "" if asked.weights is None else weights.load(model, asked.weights, kind.title, heads)
    transform = fitting(kind.edge, asked.patch_size, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    known = {"network": kind.title}
    return Network(model, model, transform, "average pool", origin(asked, f"timm {TRAINED}"), known, note=note)


def _cut(model: nn.Module, blocks: int) -> nn.Module:
    """The ResNet without its fourth block if it has three."""
    if blocks == 3:
        model.layer4 = nn.Identity()
    return model
