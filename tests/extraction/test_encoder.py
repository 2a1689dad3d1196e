"""An encoder gives what its network gives of the whole tile, and says all that decides it."""

import json
from pathlib import Path

import pytest
import timm
import torch
from encoders_for_tests import find, random_model, save, tiles
from torch import Tensor

from milbench.errors import DataError, UsageError
from milbench.extraction.encoder import NotFiniteError, encoder_names

HALF = "timm:test_resnet"


def by_hand(batch: Tensor, mean: float = 0.5, std: float = 0.5) -> Tensor:
    return (batch.permute(0, 3, 1, 2) / 255 - mean) / std


def test_features_are_those_of_a_plain_forward(tmp_path: Path) -> None:
    model = random_model("test_resnet", num_classes=0)
    encoder = find(HALF, weights=save(model, tmp_path / "weights.pth"))
    with torch.inference_mode():
        expected = model(by_hand(tiles(3)))
    found = encoder.encode(tiles(3))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found.dtype, found.shape, encoder.width) == (torch.float32, (3, 96), 96)


@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "timm:test_vit", "timm:test_convnext", "timm:test_vit?pool=patches"]
)
def test_batches_of_other_sizes_change_rounding_only(name: str) -> None:
    encoder, batch = find(name), tiles(5)
    together = encoder.encode(batch)
    alone = torch.cat([encoder.encode(batch[:1]), encoder.encode(batch[1:3]), encoder.encode(batch[3:])])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_random_weights_are_the_same_every_time_and_leave_other_draws_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = find(HALF)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one.encode(tiles(2)), find(HALF).encode(tiles(2)))


def test_trained_weights_are_told_by_their_hash_and_not_by_their_file(tmp_path: Path) -> None:
    model = random_model("test_resnet")
    one, other = (find(HALF, weights=save(model, tmp_path / name)) for name in ("a.pth", "b.pt"))
    assert one.facts() == other.facts()
    assert (one.weights, one.facts()["network"], len(one.weights_sha256)) == ("file a.pth", "test_resnet", 64)


def test_random_weights_are_told_loudly_and_have_no_hash() -> None:
    encoder = find(HALF)
    assert encoder.is_random
    assert encoder.weights_sha256 == ""
    assert encoder.facts()["weights"].startswith("RANDOM")


def test_facts_are_plain_values_that_say_what_was_done() -> None:
    facts = find("timm:test_vit?pool=patches").facts()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["encoder"], facts["width"], facts["pooling"]) == (
        "timm:test_vit?pool=patches",
        64,
        "mean of patch tokens",
    )
    assert facts["transform"]["size"] == 160


def test_an_encoder_is_in_eval_mode_and_needs_no_gradient() -> None:
    module = find(HALF).network.module
    assert module is not None
    assert not module.training
    assert not any(weight.requires_grad for weight in module.parameters())


def test_a_width_is_that_of_the_output_where_timm_states_another() -> None:
    encoder = find("timm:mobilenetv3_small_050")
    assert timm.create_model("mobilenetv3_small_050").num_features != 1024
    assert encoder.width == encoder.encode(tiles(1)).shape[1] == 1024


def test_features_that_are_no_numbers_are_refused_with_the_tile(tmp_path: Path) -> None:
    plugin = tmp_path / "odd.py"
    plugin.write_text(
        "from milbench.extraction.encoders.plugin import register_encoder\n"
        "@register_encoder('logarithm')\n"
        "def logarithm(images):\n"
        "    return images.mean(dim=(2, 3)).log()\n"
    )
    encoder, batch = find("logarithm", plugin=plugin, pretrained=True), tiles(4)
    batch[2] = 0
    with pytest.raises(NotFiniteError, match="'logarithm' gives NaN or infinite features for 1 of 4 tiles") as caught:
        encoder.encode(batch)
    assert caught.value.row == 2


@pytest.mark.parametrize("batch", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, 4, dtype=torch.uint8)])
def test_other_arrays_than_tiles_are_refused(batch: Tensor) -> None:
    with pytest.raises(DataError, match=r"takes tiles uint8 \[B, P, P, 3\]"):
        find(HALF).encode(batch)


def test_an_unknown_encoder_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="Did you mean 'retccl'"):
        find("retcl")
    assert {"retccl", "clam-resnet50", "resnet50", "timm:NAME", "hf-hub:ORG/NAME"} <= set(encoder_names())


def test_a_bare_name_is_told_how_models_of_libraries_are_called() -> None:
    with pytest.raises(UsageError, match=r"unknown encoder 'resnet18'.* A model of timm is called timm:NAME"):
        find("resnet18")


def test_weights_and_no_pretrained_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="contradict"):
        find(HALF, weights=tmp_path / "weights.pth", pretrained=False)


def test_tiles_that_a_network_cannot_take_are_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"does not take tiles of 1 pixels: .*Try another --patch"):
        find("timm:test_convnext", patch_size=1)
