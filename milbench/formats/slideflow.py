"""slideflow: `{slide}.pt` with one float32 tensor, `{slide}.index.npz` with locations, `bags_config.json`.

Locations (`arr_0`) are the centres of tiles in level-0 pixels; the tile's size on level 0 is not stored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from milbench.errors import FeatureFileError
from milbench.formats import CENTRES, SlideFeatures, SlideHeader, tensors
from milbench.formats.shapes import coordinates

NAME = "slideflow"
CONFIG, INDEX = "bags_config.json", ".index.npz"


def recognises(folder: Path) -> bool:
    """Whether `folder` has slideflow's sidecars."""
    return (folder / CONFIG).is_file() or any(folder.glob(f"*{INDEX}"))


def read(path: Path) -> SlideFeatures:
    """Features [N, D] and locations of one slide."""
    features = tensors.read(path).features
    index = _index(path)
    if not index.exists():
        return SlideFeatures(features)
    try:
        with np.load(index, allow_pickle=False) as archive:
            stored = archive["arr_0"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise FeatureFileError(f"{index} is no index of slideflow ({error}). Extract this slide again.") from error
    return SlideFeatures(features, coordinates(index, stored, len(features), CENTRES), unit=CENTRES)


def head(path: Path) -> SlideHeader:
    """Sizes of one slide."""
    unit = CENTRES if _index(path).exists() else ""
    return tensors.head(path)._replace(unit=unit, encoder=_encoder(path.parent / CONFIG))


def _index(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".pt") + INDEX)


def _encoder(config: Path) -> str:
    """The extractor that the bags' configuration names, or empty."""
    try:
        content: Any = json.loads(config.read_text(encoding="utf-8"))
        return str(content["extractor"]["class"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
