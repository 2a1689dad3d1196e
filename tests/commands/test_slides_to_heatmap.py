"""From slides to a heatmap, as a user goes: features, check, run, heatmap. Each step against the pixels that the slides were made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import timm
import torch
from made_slides import tiff_slide, tissue_pixels
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn

from milbench.commands.cli import main
from milbench.store.run import open_run

pytestmark = pytest.mark.slow

EDGE, N_SLIDES, N_FOLDS = 64, 12, 3
ARCHITECTURE = "resnet10t"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of colours that timm states for it."""

PATCHES = ("--patch", str(EDGE), "--mpp", "1", "--tissue", "smallest_piece=0.5", "--workers", "0")
"""Slides have 0.5 µm per pixel, so that patches are read from their second level."""


class Study(NamedTuple):
    """What the commands made.

    Attributes
    ----------
    pixels : of level 0, uint8 [height, width, 3], by slide id.
    network : the encoder, made by timm.
    """

    folder: Path
    pixels: dict[str, NDArray[np.uint8]]
    network: nn.Module


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Features of twelve slides, half of them striped, and a run on them."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "slides").mkdir()
    pixels = {}
    for number in range(N_SLIDES):
        texture = "striped" if number % 2 else "round"
        pixels[f"s{number}"] = tissue_pixels(768, 640, seed=number, texture=texture)  # type: ignore[arg-type]
        tiff_slide(folder / "slides" / f"s{number}.tiff", pixels[f"s{number}"], 0.5)
    rows = [f"p{number},s{number},{number % 2}" for number in range(N_SLIDES)]
    (folder / "labels.csv").write_text("\n".join(["case_id,slide_id,striped", *rows]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(ARCHITECTURE, num_classes=0, zero_init_last=False).eval()
    torch.save(network.state_dict(), folder / "weights.pt")
    extract = ["features", folder / "slides", "--encoder", f"timm:{ARCHITECTURE}", "--weights", folder / "weights.pt",
               "--out", folder / "features"]  # fmt: skip
    inspect = ["data", "inspect", folder / "features", "--labels", folder / "labels.csv"]
    run = ["run", "--cohort", folder / "cohort.yaml", "--models", "amil", "--run", folder / "run", "--no-tracking", "--workers", "1",
           "--folds", "0-2", "--set", "trainer.epochs=20", "trainer.lr=0.003"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)  # where `inspect` drafts cohort.yaml
        for words in ([*extract, *PATCHES], inspect, ["data", "check", "cohort.yaml", "--deep"], run):
            assert main(list(map(str, words))) == 0
    return Study(folder, pixels, network)


def test_two_textures_are_told_apart_by_amil(study: Study) -> None:
    areas = []
    for trial in open_run(study.folder / "run").trials():
        table = trial.predictions()
        test = table[table["role"] == "test"]
        areas.append(roc_auc_score(test["target"], test["probability"]))
    assert len(areas) == N_FOLDS
    assert np.mean(areas) > 0.9


def test_the_heatmap_lies_on_the_pixels_that_the_features_came_from(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["heatmap", study.folder / "run", "--slide", "s1", "--models", "amil", "--wsi", study.folder / "slides", "--out", tmp_path]  # fmt: skip
    capsys.readouterr()
    assert main(list(map(str, words))) == 0
    assert capsys.readouterr().err == ""
    polygons = json.loads((tmp_path / "s1_striped.geojson").read_text())["features"]
    rings = np.array([each["geometry"]["coordinates"][0] for each in polygons])  # [N, 5, 2], level-0 pixels
    with h5py.File(study.folder / "features" / "s1.h5") as file:
        coords, features = file["coords"][...], file["features"][...]
    size = 2 * EDGE
    assert np.array_equal(rings[:, 0], coords)
    assert np.array_equal(rings, coords[:, None] + np.array([[0, 0], [size, 0], [size, size], [0, size], [0, 0]]))
    expected, moved = (features_at(rings[:, 0] + shift, study.pixels["s1"], study.network) for shift in (0, 2))
    assert np.abs(features - expected).max() < 2e-3
    assert np.abs(features - moved).max() > 0.05, "one pixel of the level away"


def features_at(corners: NDArray[np.int64], pixels: NDArray[np.uint8], network: nn.Module) -> NDArray[np.float32]:
    """Features of squares of 128 pixels, each 2 × 2 of them averaged, without milbench."""
    whole = np.pad(pixels, ((0, 2 * EDGE), (0, 2 * EDGE), (0, 0)), constant_values=255)
    squares = np.stack([whole[y : y + 2 * EDGE, x : x + 2 * EDGE] for x, y in corners.tolist()])
    means = np.floor(squares.reshape(-1, EDGE, 2, EDGE, 2, 3).mean((2, 4)) + 0.5)  # [N, EDGE, EDGE, 3]
    images = (means / 255 - np.array(IMAGENET[0])) / np.array(IMAGENET[1])
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous()))
