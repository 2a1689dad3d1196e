"""slideflow: `{slide}.pt` with one float32 tensor, `{slide}.index.npz` with locations, `bags_config.json`.

Locations (`arr_0`) are the centres of tiles in level-0 pixels; the tile's size on level 0 is not stored. The configuration
tells the extractor, the tile's size in pixels and in micrometres (or a magnification as text, "20x") and the stain normaliser. If zip files are
not allowed (SF_ALLOW_ZIP=0), slideflow writes `{slide}.index.npy` with the same array.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milbench.errors import FeatureFileError
from milbench.formats import CENTRES, SlideFeatures, SlideHeader, arrays, tensors
from milbench.formats.declared import json_object
from milbench.formats.hdf5 import size
from milbench.formats.shapes import Coordinates, fitting

NAME = "slideflow"
CONFIG, INDEXES = "bags_config.json", (".index.npz", ".index.npy")
TIMES = re.compile(r"^(\d+(?:\.\d+)?)x$")
"""How slideflow writes a magnification in the place of micrometres."""


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
    header, index = tensors.head(path)._replace(**_facts(path.parent / CONFIG)), _index(path)
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


def _facts(config: Path) -> dict[str, Any]:
    """Encoder, scale and stain normaliser that the bags' configuration names, as fields of a header."""
    told = json_object(config) or {}
    edge, tile = told.get("tile_um"), size(told, "tile_px")
    times = TIMES.match(edge) if isinstance(edge, str) else None
    um = None if times else size(told, "tile_um")
    stains = _inside(told, "normalizer", "method")
    return {
        "encoder": _inside(told, "extractor", "class"),
        "mpp": um / tile if um and tile else None,
        "magnification": float(times[1]) if times else None,
        "transform": f"stain normaliser {stains}" if stains else "",
    }


def _inside(told: Mapping[str, Any], section: str, name: str) -> str:
    """A text in a section of the configuration; empty if it is not there."""
    part = told.get(section)
    found = part.get(name) if isinstance(part, dict) else None
    return found if isinstance(found, str) else ""
