"""A tile reaches a network whole, with the colours that the network was trained on."""

import json

import numpy as np
import pytest
import torch
from encoders_for_tests import tiles
from PIL import Image

from milbench.extraction.transform import IMAGENET_MEAN, IMAGENET_STD, Transform, fitting


def test_without_a_size_every_pixel_stays_and_colours_are_normalised() -> None:
    batch = tiles(2, 8)
    found = Transform(mean=IMAGENET_MEAN, std=IMAGENET_STD)(batch).numpy()
    expected = (batch.numpy() / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "method"), [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]
)
@pytest.mark.parametrize("size", [24, 40])
def test_a_resized_tile_is_what_pillow_makes_of_it(name: str, method: Image.Resampling, size: int) -> None:
    batch = tiles(1, 32) // 3 + 80  # no curve leaves the scale, where Pillow cuts it after each axis
    pillow = np.asarray(Image.fromarray(batch[0].numpy()).resize((size, size), method)) / 255
    found = Transform(size, name)(batch)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - pillow).max() < 1.5 / 255, "Pillow rounds to bytes twice"


def test_curves_that_overshoot_are_cut_to_the_scale_of_a_picture() -> None:
    batch = tiles(1, 32) // 128 * 255
    found = Transform(40, "bicubic")(batch)
    assert (float(found.min()), float(found.max())) == (0, 1)


def test_the_edges_of_a_tile_are_not_cropped() -> None:
    batch = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    batch[0, 0], batch[0, -1], batch[0, :, 0], batch[0, :, -1] = 255, 255, 255, 255
    found = Transform(28, "bicubic")(batch)[0]
    edges = torch.cat([found[:, 0], found[:, -1], found[:, :, 0], found[:, :, -1]])
    assert edges.min() > 0.5
    assert found[:, 4:-4, 4:-4].abs().max() < 0.1


@pytest.mark.parametrize(("edge", "expected"), [(None, None), (256, None), (224, 224)])
def test_a_tile_is_resized_only_if_the_network_needs_another_size(edge: int | None, expected: int | None) -> None:
    assert fitting(edge, 256, "bicubic", IMAGENET_MEAN, IMAGENET_STD).size == expected


def test_facts_are_plain_values_for_json() -> None:
    facts = fitting(224, 256, "bicubic", IMAGENET_MEAN, IMAGENET_STD).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["size"], facts["interpolation"], facts["mean"]) == (224, "bicubic", list(IMAGENET_MEAN))
