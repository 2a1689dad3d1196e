"""RetCCL's, CLAM's and any other ResNet-50: the network of torchvision, cut where its authors cut it."""

from pathlib import Path

import pytest
import torch
from encoders_for_tests import find, random_model, save, tiles
from torch import Tensor, nn

from milbench.errors import DataError, UsageError
from milbench.extraction.encoders.network import Asked
from milbench.extraction.encoders.resnet50 import resnet50_network
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
    """As RetCCL's training saves it: the encoder that is trained, its head, a second one and a queue."""
    path = tmp_path_factory.mktemp("weights") / "best_ckpt.pth"
    names = torchvision_model.state_dict()
    trained = {f"encoder_q.{key}": value for key, value in names.items() if not key.startswith("fc.")}
    other = {key.replace("encoder_q", "encoder_k"): value * 2 for key, value in trained.items()}
    torch.save({**other, **trained, "encoder_q.fc.weight": torch.zeros(2048, 128), "queue": torch.zeros(128, 9)}, path)
    return path


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
    torchvision_model: nn.Module, checkpoint: Path, name: str, blocks: int, width: int
) -> None:
    edge = 256 if name == "retccl" else 64
    encoder, batch = find(name, weights=checkpoint, patch_size=edge), tiles(2, edge)
    images = (batch.permute(0, 3, 1, 2) / 255 - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(
        IMAGENET_STD
    ).view(3, 1, 1)
    with torch.inference_mode():
        expected = places(torchvision_model, images, blocks)
    torch.testing.assert_close(encoder.encode(batch), expected, rtol=1e-3, atol=1e-4)
    assert (encoder.width, encoder.pooling, encoder.weights) == (width, "average pool", "file best_ckpt.pth")


def test_a_file_cut_after_the_third_block_serves_clam_alone(torchvision_model: nn.Module, tmp_path: Path) -> None:
    kept = {key: value for key, value in torchvision_model.state_dict().items() if not key.startswith(("layer4", "fc"))}
    torch.save(kept, tmp_path / "cut.pth")
    assert find("clam-resnet50", weights=tmp_path / "cut.pth").width == 1024
    with pytest.raises(
        DataError, match=r"ResNet-50 without its fourth block.*RetCCL's ResNet-50 needs layer4\.0\.conv1\.weight"
    ):
        find("retccl", weights=tmp_path / "cut.pth")


def test_the_weights_of_a_vit_are_no_resnet(tmp_path: Path) -> None:
    path = save(random_model("test_vit"), tmp_path / "vit.pth")
    with pytest.raises(DataError, match=r"tensors of a ViT \(blocks\.0\..*RetCCL's ResNet-50 needs conv1\.weight"):
        find("retccl", weights=path)


def test_the_same_weights_have_one_hash_by_whatever_name_they_are_used(checkpoint: Path) -> None:
    one, other = (find(name, weights=checkpoint).weights_sha256 for name in ("resnet50", "timm:resnet50"))
    assert one == other != ""


@pytest.mark.parametrize(
    ("name", "message"), [("retccl", "best_ckpt.pth.*RetCCL.*--weights"), ("resnet50", "timm:resnet50.tv_in1k")]
)
def test_an_encoder_without_weights_says_where_they_are(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"encoder '{name}' comes without weights.*{message}"):
        find(name, pretrained=True)


@pytest.mark.parametrize(("name", "size"), [("retccl", 256), ("clam-resnet50", None), ("resnet50", None)])
def test_retccl_sees_tiles_of_256_pixels_and_the_others_see_them_as_they_are(name: str, size: int | None) -> None:
    assert resnet50_network(Asked(name, None, pretrained=False, patch_size=64)).transform.size == size
