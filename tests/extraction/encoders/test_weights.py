"""Weights are put in strictly: every tensor in its shape, none left over, and nothing is unpickled."""

import pickle
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from encoders_for_tests import random_model, save
from safetensors.torch import save_file
from torch import nn

from milbench.errors import DataError, UsageError
from milbench.extraction.encoders import weights
from milbench.extraction.encoders.recognised import seems_to_be


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return random_model("test_resnet")


@pytest.fixture
def network() -> nn.Module:
    return random_model("test_resnet", seed=2, num_classes=0)


def below(prefix: str, model: nn.Module) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in model.state_dict().items()}


WRAPPED: dict[str, Callable[[nn.Module], Any]] = {
    "plain": lambda model: model.state_dict(),
    "data parallel": lambda model: {"state_dict": below("module.", model), "epoch": 3},
    "momentum contrast": lambda model: {
        "state_dict": {
            **below("module.encoder_k.", random_model("test_resnet", seed=9)),
            **below("module.encoder_q.", model),
            "module.queue": torch.zeros(3, 4),
        },
        "args": Namespace(arch="resnet"),
    },
    "teacher and student": lambda model: {
        "student": below("module.backbone.", random_model("test_resnet", seed=9)),
        "teacher": {**below("backbone.", model), "head.mlp.0.weight": torch.zeros(3)},
    },
    "nested": lambda model: {"model": {"state_dict": below("encoder.", model)}},
    "teacher and student in one dict": lambda model: {
        **below("student.backbone.", random_model("test_resnet", seed=9)),
        **below("teacher.backbone.", model),
        "teacher.dino_head.mlp.0.weight": torch.zeros(3),
    },
    "teacher and student below a wrapper of modules": lambda model: {
        "model": {
            **below("student.backbone._fsdp_wrapped_module.", random_model("test_resnet", seed=9)),
            **below("teacher.backbone._fsdp_wrapped_module.", model),
        }
    },
    "a wrapper of any name, if it is the only one": lambda model: {
        "weights": below("module.", model),
        "log": {"lr": 0.1},
    },
    "half precision": lambda model: {
        key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()
    },
    "without counters": lambda model: {
        key: value for key, value in model.state_dict().items() if "num_batches" not in key
    },
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_are_found_in_what_training_scripts_save(
    tmp_path: Path, trained: nn.Module, network: nn.Module, kind: str
) -> None:
    torch.save(WRAPPED[kind](trained), tmp_path / "weights.pth")
    weights.load(network, tmp_path / "weights.pth", "test_resnet")
    expected = {
        key: value
        for key, value in trained.state_dict().items()
        if key in network.state_dict() and "num_batches" not in key
    }
    for key, value in expected.items():
        torch.testing.assert_close(
            network.state_dict()[key],
            value,
            rtol=1e-3 if kind == "half precision" else 0,
            atol=1e-3 if kind == "half precision" else 0,
        )


def test_every_kind_of_file_gives_the_same_hash(tmp_path: Path, trained: nn.Module, network: nn.Module) -> None:
    torch.save(trained.state_dict(), tmp_path / "new.bin")
    torch.save(trained.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    before, hashes = weights.sha256(network), set()
    for name in ("new.bin", "old.pth", "weights.safetensors"):
        weights.load(network, tmp_path / name, "test_resnet")
        hashes.add(weights.sha256(network))
    assert len(hashes) == 1
    assert before not in hashes


def test_one_changed_bit_changes_the_hash(network: nn.Module) -> None:
    before = weights.sha256(network)
    network.conv1[0].weight.data[0, 0, 0, 0] += 1e-6
    assert weights.sha256(network) != before


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("test_vit", "a ViT"),
        ("test_convnext", "a network of stages"),
        ("test_efficientnet", "an EfficientNet"),
    ],
)
def test_the_weights_of_another_network_are_refused_with_its_name(
    tmp_path: Path, network: nn.Module, name: str, family: str
) -> None:
    path = save(random_model(name), tmp_path / "weights.pth")
    with pytest.raises(
        DataError, match=rf"holds \d+ tensors of {family}.* test_resnet needs .* and \d+ more, which are not among them"
    ):
        weights.load(network, path, "test_resnet")


def blocks(*depths: int, last: str = "conv3") -> list[str]:
    return [
        f"module.layer{layer}.{block}.{last}.weight" for layer, depth in enumerate(depths, 1) for block in range(depth)
    ]


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (blocks(3, 4, 6, 3), "a ResNet-50"),
        (blocks(3, 4, 6), "a ResNet-50 without its fourth block"),
        (blocks(2, 2, 2, 2, last="conv2"), "a ResNet-18"),
        (blocks(1, 1, 1, 1), "a ResNet of 1, 1, 1 and 1 blocks"),
        (["layers.0.blocks.1.attn.qkv.weight"], "a Swin transformer"),
        (["backbone.blocks.0.11.norm1.weight"], "a ViT in chunks of blocks, as DINOv2 trains it"),
        (["blocks.0.norm1.weight", "register_tokens"], "a ViT under DINOv2's names"),
        (["blocks.0.0.conv_dw.weight"], "an EfficientNet or MobileNet"),
        (["visual.transformer.resblocks.0.ln_1.weight"], "a CLIP model"),
        (["encoder.layer.0.attention.attention.query.weight"], "a transformer in the form of Hugging Face"),
        (["features.denseblock1.denselayer1.norm1.weight"], "a DenseNet"),
        (["a", "b", "c"], r"an unknown network \(a, b\)"),
        ([], r"an unknown network \(no name\)"),
    ],
)
def test_a_network_is_recognised_by_its_names(names: list[str], family: str) -> None:
    assert re.match(family, seems_to_be(names))


def spoilt(content: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    key = "layer1.0.conv1.weight"
    changes: dict[str, dict[str, torch.Tensor]] = {
        "shape": {key: content[key][:, :-1].clone()},
        "more": {"attention.0.weight": torch.zeros(2, 2)},
        "whole": {key: torch.zeros(content[key].shape, dtype=torch.int64)},
        "NaN": {key: torch.full_like(content[key], torch.nan)},
        "missing": {},
    }
    return {**{name: value for name, value in content.items() if how != "missing" or name != key}, **changes[how]}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shape", r"layer1.0.conv1.weight is \(.*\), but test_resnet needs \("),
        ("more", "holds a ResNet of .*, with 1 tensors that test_resnet has no place for, such as attention.0.weight"),
        ("whole", "holds torch.int64, not floats"),
        ("NaN", "holds NaN or infinite values"),
        ("missing", "test_resnet needs layer1.0.conv1.weight, which is not among them"),
    ],
)
def test_weights_that_nearly_fit_are_refused_and_change_nothing(
    tmp_path: Path, trained: nn.Module, network: nn.Module, how: str, message: str
) -> None:
    torch.save(spoilt(trained.state_dict(), how), tmp_path / "weights.pth")
    before = weights.sha256(network)
    with pytest.raises(DataError, match=message):
        weights.load(network, tmp_path / "weights.pth", "test_resnet")
    assert weights.sha256(network) == before


def test_a_name_that_fits_by_chance_below_a_prefix_does_not_hide_what_the_file_holds(
    tmp_path: Path, network: nn.Module
) -> None:
    content = {"neck.bn1.weight": torch.zeros(8), "encoder.layer.0.attention.attention.query.weight": torch.zeros(4, 4)}
    torch.save(content, tmp_path / "weights.pth")
    seen = r"holds 2 tensors of a transformer in the form of Hugging Face.* needs .* more, which are not among them"
    with pytest.raises(DataError, match=rf"{seen}, also after 'neck.' is taken off"):
        weights.load(network, tmp_path / "weights.pth", "test_resnet")


def test_several_wrappers_of_unknown_names_are_refused_with_the_known_ones(
    tmp_path: Path, trained: nn.Module, network: nn.Module
) -> None:
    torch.save({"left": trained.state_dict(), "right": trained.state_dict()}, tmp_path / "weights.pth")
    with pytest.raises(
        DataError, match=r"It holds a dict of left, right; looked below state_dict, model_state_dict, model"
    ):
        weights.load(network, tmp_path / "weights.pth", "test_resnet")


def test_what_lies_beside_the_network_and_is_left_out_is_said(
    tmp_path: Path, trained: nn.Module, network: nn.Module
) -> None:
    torch.save({**below("backbone.", trained), "neck.weight": torch.zeros(4, 4)}, tmp_path / "weights.pth")
    told = weights.load(network, tmp_path / "weights.pth", "test_resnet")
    assert told.startswith(
        "the file's weights below 'backbone.' are taken. Beside them lie 1 tensors that are left out, such as neck"
    )


def test_of_copies_and_heads_beside_the_network_nothing_is_said(
    tmp_path: Path, trained: nn.Module, network: nn.Module
) -> None:
    content = {
        **below("teacher.backbone.", trained), **below("student.backbone.", random_model("test_resnet", seed=9)),
        "teacher.dino_head.mlp.0.weight": torch.zeros(3),
    }  # fmt: skip
    torch.save(content, tmp_path / "weights.pth")
    assert weights.load(network, tmp_path / "weights.pth", "test_resnet") == ""


def test_two_copies_that_nothing_tells_apart_are_refused(
    tmp_path: Path, trained: nn.Module, network: nn.Module
) -> None:
    torch.save({**below("left.", trained), **below("right.", trained)}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"holds 2 copies of test_resnet, below 'left.' and 'right.'"):
        weights.load(network, tmp_path / "weights.pth", "test_resnet")


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("opened"),)


def test_a_pickled_object_is_refused_and_not_run(
    tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": network.state_dict(), "more": Trap()}, "trap.pth")
    with pytest.raises(
        DataError,
        match=r"trap.pth holds a Python object \(.*\), which could run any code .*safetensors.torch.save_file",
    ):
        weights.load(network, Path("trap.pth"), "test_resnet")
    assert not Path("opened").exists()


BROKEN: dict[str, tuple[bytes, str]] = {
    "page.pth": (b"<!DOCTYPE html><html>log in</html>", "is an HTML page"),
    "noise.pth": (b"noise, and no weights" * 9, "is no readable file of weights"),
    "pickle.pth": (pickle.dumps({"a": print}), "is no readable file of weights"),
    "empty.pth": (b"", "it is empty"),
    "cut.safetensors": (b"\x40\0\0\0\0\0\0\0{", "is no readable safetensors file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_holds_no_weights_is_refused_by_name(tmp_path: Path, network: nn.Module, name: str) -> None:
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} .*{message}|{message}"):
        weights.load(network, tmp_path / name, "test_resnet")


@pytest.mark.parametrize(
    ("content", "message"), [({"epoch": 3}, "holds a dict of epoch"), ([1, 2], "holds a list, not a network's weights")]
)
def test_other_contents_are_refused(tmp_path: Path, network: nn.Module, content: object, message: str) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(DataError, match=message):
        weights.load(network, tmp_path / "weights.pth", "test_resnet")


def test_a_file_that_is_not_there_is_a_wrong_path(tmp_path: Path, network: nn.Module) -> None:
    with pytest.raises(UsageError, match=r"there is no file of weights at .*none\.pth"):
        weights.load(network, tmp_path / "none.pth", "test_resnet")
