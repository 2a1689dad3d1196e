"""Tokens and maps become one vector as the name says, and prefix tokens never count as patches."""

import pytest
import torch
from encoders_for_tests import find, random_model, save, tiles

from milbench.errors import UsageError


def images(edge: int, n: int = 2) -> torch.Tensor:
    return (tiles(n, edge).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5


@pytest.mark.parametrize(
    ("query", "pooling"),
    [("", "class token"), ("?pool=class", "class token"), ("?pool=patches", "mean of patch tokens")],
)
def test_a_vit_gives_its_class_token_or_the_mean_of_its_patches(tmp_path, query: str, pooling: str) -> None:
    model = random_model("test_vit", num_classes=0)
    encoder = find(f"timm:test_vit{query}", weights=save(model, tmp_path / "weights.pth"), patch_size=160)
    with torch.inference_mode():
        tokens = model.forward_features(images(160))
    assert tokens.shape == (2, 101, 64)
    expected = tokens[:, 0] if pooling == "class token" else tokens[:, 1:].mean(dim=1)
    torch.testing.assert_close(encoder.encode(tiles(2, 160)), expected, rtol=1e-4, atol=1e-5)
    assert encoder.pooling == pooling


def test_register_tokens_are_no_patches() -> None:
    encoder = find("timm:test_vit4?pool=patches", patch_size=160)
    model = encoder.network.module
    with torch.inference_mode():
        tokens = model.forward_features(encoder.transform(tiles(2, 160)))
        expected = model.fc_norm(tokens[:, model.num_prefix_tokens :].mean(dim=1))
    torch.testing.assert_close(encoder.encode(tiles(2, 160)), expected, rtol=1e-4, atol=1e-5)


def test_a_vit_that_pools_patches_itself_keeps_its_trained_last_norm(tmp_path) -> None:
    model = random_model("test_vit2", num_classes=0)
    model.fc_norm.weight.data.uniform_(2, 3)
    path = save(model, tmp_path / "weights.pth")
    own, ours = (find(f"timm:test_vit2{query}", weights=path, patch_size=160) for query in ("", "?pool=patches"))
    torch.testing.assert_close(own.encode(tiles(2, 160)), ours.encode(tiles(2, 160)), rtol=1e-4, atol=1e-5)
    assert own.pooling == ours.pooling == "mean of patch tokens"


def test_maps_with_channels_last_are_averaged_over_places() -> None:
    encoder = find("timm:test_mambaout?pool=patches")
    with torch.inference_mode():
        places = encoder.network.module.forward_features(encoder.transform(tiles(2)))
    assert places.shape[1] == places.shape[2] != places.shape[3], "the model's maps are [B, H, W, D]"
    torch.testing.assert_close(encoder.encode(tiles(2)), places.flatten(1, 2).mean(dim=1), rtol=1e-4, atol=1e-5)


def test_the_average_pool_of_a_cnn_is_the_mean_of_its_places() -> None:
    own, ours = find("timm:test_resnet"), find("timm:test_resnet?pool=patches")
    torch.testing.assert_close(own.encode(tiles(2)), ours.encode(tiles(2)), rtol=1e-4, atol=1e-5)
    assert own.pooling == "average pool"


@pytest.mark.parametrize("name", ["timm:test_resnet?pool=class", "timm:test_vit2?pool=class"])
def test_a_class_token_is_refused_where_there_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="has no class token"):
        find(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:test_vit?pool=avg", "unknown pooling 'avg'"),
        ("timm:test_vit?size=3", "unknown option 'size=3'"),
        ("timm:test_vit?pool", "unknown option 'pool'"),
    ],
)
def test_an_unknown_option_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find(name)
