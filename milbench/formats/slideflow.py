"""slideflow: `{slide}.pt` with one float32 tensor, `{slide}.index.npz` with locations, `bags_config.json`.

Locations (`arr_0`) are the centres of tiles in level-0 pixels; the tile's size on level 0 is not stored. If zip files are
not allowed (SF_ALLOW_ZIP=0), slideflow writes `{slide}.index.npy` with the same array.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from milbench.errors import FeatureFileError
from milbench.formats import CENTRES, SlideFeatures, SlideHeader, arrays, tensors
from milbench.formats.shapes import Coordinates, fitting
from milbench.special_files import special_kind

NAME = "slideflow"
CONFIG, INDEXES = "bags_config.json", (".index.npz", ".index.npy")
MOST_BYTES = 1_000_000
"""Of a configuration, which has some hundred; beyond, it is none."""


def recognises(folder: Path) -> bool:
    """Whether `folder` has slideflow's sidecars."""
    return (folder / CONFIG).is_file() or any(any(folder.glob(f"*{index}")) for index in INDEXES)


def read(path: Path) -> SlideFeatures:
    """Features [N, D] and locations of one slide."""
    features = tensors.read(path).features
    index = _index(path)
    if index is None:
        return SlideFeatures(features)
    places = _places(index, len(features))
    return SlideFeatures(features, places.coords, unit=CENTRES, coords_problem=places.problem)


def head(path: Path) -> SlideHeader:
    """Sizes of one slide."""
    header, index = tensors.head(path)._replace(encoder=_encoder(path.parent / CONFIG)), _index(path)
    if index is None:
        return header
    return header._replace(unit=CENTRES, coords_problem=_places(index, header.n_patches).problem)


def _index(path: Path) -> Path | None:
    """Where the slide's locations lie, or None."""
    beside = (path.with_name(f"{path.stem}{index}") for index in INDEXES)
    return next(filter(Path.exists, beside), None)


def _places(index: Path, n_patches: int) -> Coordinates:
    """Locations of `n_patches` tiles, which are small enough to be read where a header is asked for."""
    try:
        stored = arrays.load_array(index) if index.suffix == ".npy" else arrays.load_member(index, "arr_0")
    except FeatureFileError as error:
        return Coordinates(None, str(error))
    return fitting(stored, n_patches, CENTRES)


def _encoder(config: Path) -> str:
    """The extractor that the bags' configuration names, or empty."""
    try:
        if special_kind(config) or config.stat().st_size > MOST_BYTES:
            return ""
        content: Any = json.loads(config.read_text(encoding="utf-8"))
        return str(content["extractor"]["class"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
