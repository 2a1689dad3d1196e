"""Peer of `features_speed.py`: the same tiles of the same slide by lazyslide, in an environment that has lazyslide and timm.

It reads a line of JSON and prints one. lazyslide finds tissue and lays its own tiles, which is timed. Then it is given
milbench's tiles, so that both encode the same pixels, and writes its store.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import torchvision_operators  # noqa: F401 - where torchvision is built for CUDA and torch is not

# isort: split

import lazyslide as zs  # type: ignore[import-not-found]
import numpy as np
import timm
import torch
from safetensors.torch import load_file
from wsidata import TileSpec, open_wsi  # type: ignore[import-not-found]
from wsidata.io import add_tiles  # type: ignore[import-not-found]

MEAN, STD = (torch.tensor(each)[:, None, None] for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def image_of(tile: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(np.array(tile)).permute(2, 0, 1).float() / 255 - MEAN) / STD


def measured(task: dict[str, Any]) -> dict[str, float]:
    """Seconds from the open slide to the store on disk."""
    network = timm.create_model(task["encoder"].removeprefix("timm:"), num_classes=0).eval()
    network.load_state_dict(load_file(task["weights"]))
    with torch.inference_mode():
        network(torch.zeros(8, 3, 256, 256))
    coords = np.load(task["coords"])
    slide = next(Path(task["slides"]).iterdir())
    began, used = perf_counter(), processor_seconds()
    wsi = open_wsi(slide, store=task["out"])
    zs.pp.find_tissues(wsi)
    zs.pp.tile_tissues(wsi, 256, mpp=0.5, key_added="own")
    add_tiles(wsi, "tiles", coords, TileSpec.from_wsidata(wsi, 256, mpp=0.5), np.zeros(len(coords), int))
    encoding = perf_counter()
    zs.tl.feature_extraction(
        wsi, network, model_name="network", transform=image_of, device="cpu", amp=False, batch_size=8,
        num_workers=task["workers"], pbar=False,
    )  # fmt: skip
    steady = perf_counter() - encoding
    wsi.write(task["out"], overwrite=True)
    seconds = perf_counter() - began
    np.save(task["features"], wsi.fetch.features_anndata("network", "tiles").X)
    return {"tiles": len(coords), "seconds": seconds, "processor": processor_seconds() - used, "steady": steady}


if __name__ == "__main__":
    print(json.dumps(measured(json.loads(sys.argv[1]))))
