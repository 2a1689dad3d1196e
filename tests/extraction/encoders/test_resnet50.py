"""RetCCL's, CLAM's and any other ResNet-50: the network of torchvision, cut where its authors cut it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from encoders_for_tests import find, random_model, save, tiles
from torch import Tensor, nn

from milbench.errors import DataError, UsageError
from milbench.extraction.encoders import weights
from milbench.extraction.encoders.network import Asked, Network
from milbench.extraction.encoders.resnet50 import resnet50_network
from milbench.extraction.encoders.timm_models import timm_network
from milbench.extraction.transform import IMAGENET_MEAN, IMAGENET_STD


@pytest.fixture(scope="module")
def torchvision_model() -> nn.Module:
    """torchvision's own ResNet-50, whose code timm does not share."""
    from torchvision.models import resnet50

    with torch.random.fork_rng():
        torch.manual_seed(3)
        return resnet50(weights=None).eval()


@pytest.fixture(scope="module")
def checkpoint(torchvision_model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names of a momentum encoder's training: the encoder, a head without bias and a queue."""
    path = tmp_path_factory.mktemp("weights") / "best_ckpt.pth"
    names = torchvision_model.state_dict()
    trained = {f"encoder_q.{key}": value for key, value in names.items() if not key.startswith("fc.")}
    torch.save({**trained, "encoder_q.fc.weight": torch.zeros(2048, 128), "queue": torch.zeros(128, 9)}, path)
    return path


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> Callable[[str], Network]:
    """Networks by name with the weights of `checkpoint`, each made once."""
    return cache(lambda name: resnet50_network(Asked(name, checkpoint, pretrained=True, patch_size=64)))


def places(model: nn.Module, images: Tensor, blocks: int) -> Tensor:
    """Mean over places of the output of a torchvision ResNet's last block, written out."""
    x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    for block in range(1, blocks + 1):
        x = getattr(model, f"layer{block}")(x)
    return x.mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("name", "blocks", "width"), [("retccl", 4, 2048), ("clam-resnet50", 3, 1024), ("resnet50", 4, 2048)]
)
def test_features_are_those_of_torchvision_at_the_stated_block(
    torchvision_model: nn.Module, network: Callable[[str], Network], name: str, blocks: int, width: int
) -> None:
    images = tiles(2).permute(0, 3, 1, 2) / 127.5 - 1
    run = network(name).run
    with torch.inference_mode():
        expected, found = places(torchvision_model, images, blocks), run(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found.shape == (2, width)
    assert (network(name).pooling, network(name).weights) == ("average pool", "file best_ckpt.pth")


@pytest.mark.parametrize(("name", "size"), [("retccl", 256), ("clam-resnet50", None), ("resnet50", None)])
def test_retccl_sees_tiles_of_256_pixels_and_the_others_see_them_as_they_are(
    network: Callable[[str], Network], name: str, size: int | None
) -> None:
    transform = network(name).transform
    assert (transform.size, transform.mean, transform.std) == (size, IMAGENET_MEAN, IMAGENET_STD)


def test_the_same_weights_have_one_hash_by_whatever_name_they_are_used(
    network: Callable[[str], Network], checkpoint: Path
) -> None:
    by_timm = timm_network(Asked("timm:resnet50", checkpoint, pretrained=True, patch_size=64))
    assert weights.sha256(by_timm.module) == weights.sha256(network("retccl").module)
    assert weights.sha256(by_timm.module) != weights.sha256(network("clam-resnet50").module)


def test_a_file_cut_after_the_third_block_serves_clam_alone(
    torchvision_model: nn.Module, network: Callable[[str], Network], tmp_path: Path
) -> None:
    kept = {key: value for key, value in torchvision_model.state_dict().items() if not key.startswith(("layer4", "fc"))}
    torch.save(kept, tmp_path / "cut.pth")
    weights.load(network("clam-resnet50").module, tmp_path / "cut.pth", "CLAM's ResNet-50")
    with pytest.raises(
        DataError, match=r"ResNet-50 without its fourth block.*RetCCL's ResNet-50 needs layer4\.0\.conv1\.weight"
    ):
        weights.load(network("retccl").module, tmp_path / "cut.pth", "RetCCL's ResNet-50")


def test_the_weights_of_a_vit_are_no_resnet(network: Callable[[str], Network], tmp_path: Path) -> None:
    path = save(random_model("test_vit"), tmp_path / "vit.pth")
    with pytest.raises(DataError, match=r"tensors of a ViT \(blocks\.0\..*RetCCL's ResNet-50 needs conv1\.weight"):
        weights.load(network("retccl").module, path, "RetCCL's ResNet-50")


@pytest.mark.parametrize(
    ("name", "message"), [("retccl", r"best_ckpt\.pth.*RetCCL.*--weights"), ("resnet50", r"timm:resnet50\.tv_in1k")]
)
def test_an_encoder_without_weights_says_where_they_are(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"encoder '{name}' comes without weights.*{message}"):
        find(name, pretrained=True)
