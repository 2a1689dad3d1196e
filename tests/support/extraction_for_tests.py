"""Slides and encoders that need no network, for tests of extraction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from made_slides import tiff_slide, tissue_pixels
from numpy.typing import NDArray
from torch import Tensor

from milbench.extraction.encoder import Transform
from milbench.extraction.features import Outcome, Watch, extract
from milbench.extraction.plan import SlideFile
from milbench.extraction.settings import Settings, TissueSettings

SETTINGS = Settings(mpp=0.5, magnification=None, patch_size=64, step=64, tissue=TissueSettings(smallest_piece=0.5))

PLUGIN = '''
"""An encoder of six numbers: mean and deviation of each colour."""

import torch

from milbench.extraction.encoders.plugin import register_encoder


@register_encoder("six-colours")
def colours(images: torch.Tensor) -> torch.Tensor:
    return torch.cat([images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)
'''


@dataclass(frozen=True)
class Colours:
    """An encoder of six numbers, mean and deviation of each colour; `broken` gives NaN for tiles that are darker than that."""

    broken: float = 0.0
    name: str = "colours"
    device: str = "cpu"
    is_random: bool = False

    def facts(self) -> dict[str, Any]:
        transform = Transform(size=None, interpolation="", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        return {
            "encoder": self.name, "width": 6, "weights_sha256": "", "pooling": "mean and deviation",
            "transform": transform.facts(),
        }  # fmt: skip

    def encode(self, tiles: Tensor) -> Tensor:
        rows = torch.from_numpy(colours_of(tiles.numpy()))
        rows[rows[:, :3].mean(1) < self.broken] = float("nan")
        return rows


def colours_of(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean and deviation of each colour, float32 [B, 6]."""
    pixels = tiles.astype(np.float64).reshape(len(tiles), -1, 3)
    return np.concatenate([pixels.mean(1), pixels.std(1)], axis=1).astype(np.float32)


def make_slides(folder: Path, names: str, width: int = 768, height: int = 512) -> dict[str, NDArray[np.uint8]]:
    """Pixels by slide id; the slides lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: tissue_pixels(width, height, seed=seed) for seed, name in enumerate(names)}
    for name, pixels in made.items():
        tiff_slide(folder / f"{name}.tiff", pixels, 0.5, levels=2)
    return made


def files_of(folder: Path, **microns: float) -> list[SlideFile]:
    return [SlideFile(path.stem, path, microns.get(path.stem)) for path in sorted(folder.glob("*.tiff"))]


def stored(folder: Path, slide_id: str) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any], dict[str, Any]]:
    """Features, coordinates, their attributes and those of the file."""
    with h5py.File(folder / f"{slide_id}.h5") as file:
        features, coords = file["features"], file["coords"]
        return features[...], coords[...], {**features.attrs, **coords.attrs}, dict(file.attrs)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in an extraction's folder, by its path there."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Notes(Watch):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def run(slides: Path, out: Path, settings: Settings = SETTINGS, encoder: Any = None, **more: Any) -> Outcome:
    microns = more.pop("microns", {})
    return extract(
        files_of(slides, **microns), encoder or Colours(), settings, out, **{"workers": 0, "batch": 8, **more}
    )
