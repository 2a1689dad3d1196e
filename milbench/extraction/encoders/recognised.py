"""Recognised: which network a file's weights seem to belong to, by their names; for messages only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

RESNETS: Mapping[tuple[str, tuple[int, ...]], str] = {
    ("conv2", (2, 2, 2, 2)): "ResNet-18",
    ("conv2", (3, 4, 6, 3)): "ResNet-34",
    ("conv3", (3, 4, 6, 3)): "ResNet-50",
    ("conv3", (3, 4, 23, 3)): "ResNet-101",
    ("conv3", (3, 8, 36, 3)): "ResNet-152",
}
"""Names by the last convolution of a block, and the blocks of each of the four layers."""

FAMILIES: tuple[tuple[str, str], ...] = (
    (r"(^|\.)visual\.transformer\.resblocks\.\d+\.", "a CLIP model in OpenAI's form"),
    (r"(^|\.)blocks\.\d+\.\d+\.(norm[12]|attn|ls[12]|mlp)\.", "a ViT in chunks of blocks, as DINOv2 trains it"),
    (r"(^|\.)register_tokens$", "a ViT under DINOv2's names, which are not timm's"),
    (r"(^|\.)encoder\.layer\.\d+\.attention\.", "a transformer in the form of Hugging Face's transformers"),
    (r"(^|\.)layers\.\d+\.blocks\.\d+\.", "a Swin transformer"),
    (r"(^|\.)stages\.\d+\.blocks\.\d+\.", "a network of stages, such as ConvNeXt"),
    (r"(^|\.)blocks\.\d+\.attn\.", "a ViT"),
    (r"(^|\.)features\.denseblock\d+\.", "a DenseNet"),
    (r"(^|\.)blocks\.\d+\.\d+\.", "an EfficientNet or MobileNet"),
)
"""What names look like, and whose they are."""

BLOCK = re.compile(r"(?:^|\.)layer([1-4])\.(\d+)\.(conv[23])\.weight$")


def seems_to_be(names: Iterable[str]) -> str:
    """A noun for the network, with one of its names: "a ViT (blocks.0.attn.qkv.weight)"."""
    every = list(names)
    if resnet := _resnet(every):
        return resnet
    for pattern, family in FAMILIES:
        example = next((name for name in every if re.search(pattern, name)), None)
        if example:
            return f"{family} ({example})"
    return f"an unknown network ({', '.join(every[:2]) or 'no name'})"


def _resnet(names: list[str]) -> str:
    blocks = [match.groups() for match in map(BLOCK.search, names) if match]
    if not blocks:
        return ""
    last = max(convolution for _, _, convolution in blocks)
    depths = tuple(len({number for layer, number, _ in blocks if layer == each}) for each in "1234")
    return f"a {_depth(last, depths)} (layer1.0.{last}.weight)"


def _depth(last: str, depths: tuple[int, ...]) -> str:
    if not depths[3]:
        whole = next(
            (name for (conv, depth), name in RESNETS.items() if (conv, depth[:3]) == (last, depths[:3])), "ResNet"
        )
        return f"{whole} without its fourth block"
    listed = f"{', '.join(map(str, depths[:3]))} and {depths[3]}"
    return RESNETS.get((last, depths), f"ResNet of {listed} blocks")
