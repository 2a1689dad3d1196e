"""timm's failures become one message that says what to do."""

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import huggingface_hub.constants
import pytest
import timm
import torch
from encoders_for_tests import find, random_model, save, tiles
from safetensors.torch import save_file
from torch import Tensor, nn

from milbench.errors import UsageError
from milbench.extraction.encoders.library import create, import_timm


class GatedRepoError(OSError):
    """As huggingface_hub calls it; its own needs an HTTP answer."""


class LocalEntryNotFoundError(FileNotFoundError):
    """As huggingface_hub calls it."""


class OfflineModeIsEnabled(ConnectionError):
    """As huggingface_hub calls it."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ERRORS: list[tuple[Exception, str]] = [
    (
        GatedRepoError("403"),
        r"hf-hub:a/b is gated.*Accept them on https://huggingface.co/a/b.*hf auth login.*HF_TOKEN.*--weights",
    ),
    (
        caused(LocalEntryNotFoundError("x"), OfflineModeIsEnabled("offline")),
        r"a/b is not in this machine's cache, and HF_HUB_OFFLINE is set.*--encoder timm:ARCHITECTURE --weights.*--no-pretrained",
    ),
    (
        caused(LocalEntryNotFoundError("x"), OSError(-2, "Name or service not known")),
        r"cannot be downloaded \(.*Name or service not known\).*HF_HUB_OFFLINE=1",
    ),
    (URLError("timed out"), r"cannot be downloaded \(.*timed out"),
    (RuntimeError("Error(s) in loading state_dict for ViT"), r"do not fit the network.*plug-in of one function"),
    (RuntimeError("No pretrained weights exist for a"), "has no trained weights"),
    (ZeroDivisionError("odd"), "cannot be made: ZeroDivisionError: odd"),
]


@pytest.mark.parametrize(("error", "message"), ERRORS)
def test_weights_that_cannot_be_had_get_one_message(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(UsageError, match=message):
        create("hf-hub:a/b", pretrained=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`hub(model, more=...)` puts a model into the cache of the Hub, which is all that can be reached, as org/name."""
    from timm.models import save_for_hf

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def put(model: nn.Module, more: dict[str, Tensor] | None = None) -> None:
        folder = tmp_path / "models--org--name"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0123456789")
        save_for_hf(model, folder / "snapshots" / "0123456789", safe_serialization=True)
        if more:
            save_file({**model.state_dict(), **more}, folder / "snapshots" / "0123456789" / "model.safetensors")

    return put


def test_a_model_of_the_hub_is_read_from_the_cache_without_a_network(hub: Callable[..., None], tmp_path: Path) -> None:
    model = random_model("test_vit", pretrained_cfg_overlay={"mean": (0.1, 0.2, 0.3)})
    hub(model)
    encoder = find("hf-hub:org/name?pool=patches", pretrained=True)
    file = find("timm:test_vit", weights=save(model, tmp_path / "weights.pth"))
    assert encoder.weights_sha256 == file.weights_sha256
    assert (encoder.transform.mean, encoder.transform.size) == ((0.1, 0.2, 0.3), 160)
    assert encoder.encode(tiles(2)).shape == (2, 64)


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_trained_weights_that_the_network_has_no_place_for_are_refused(hub: Callable[..., None], change: str) -> None:
    # timm would leave them out with a line in its log
    model = random_model("test_vit", init_values=1e-5 if change == "fewer" else None)
    if change == "more":
        hub(model, {f"blocks.{block}.ls1.gamma": torch.ones(64) for block in range(6)})
    else:
        hub(model)
        state = {key: value for key, value in model.state_dict().items() if "blocks.0" not in key}
        hub_file = next(Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("model.safetensors"))
        save_file(state, hub_file)
    with pytest.raises(
        UsageError,
        match=r"do not fit the network that their page describes \((Unexpected|Missing) key.*blocks\.0\..*plug-in",
    ):
        find("hf-hub:org/name", pretrained=True)


def test_weights_without_a_network_get_that_message_from_the_library_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UsageError, match=r"^test_resnet is not in this machine's cache.*--encoder timm:test_resnet --weights FILE"
    ):
        find("timm:test_resnet", pretrained=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:vit_smal_patch16_224", r"has no model 'vit_smal_patch16_224'. Did you mean .*vit_small_patch16_224"),
        ("timm:resnet50.tv_in1", r"has no weights 'tv_in1' of resnet50. Tags: .*tv_in1k"),
        ("timm:resnet10t.x", r"has no weights 'x' of resnet10t. Tags: c3_in1k"),
    ],
)
def test_a_mistyped_name_or_tag_gets_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find(name)


def test_a_torchvision_of_another_build_is_told_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing_import(monkeypatch, RuntimeError("operator torchvision::nms does not exist"))
    with pytest.raises(
        UsageError,
        match=r"torchvision::nms does not exist\). Most likely torchvision and torch .*one index.*--index-url",
    ):
        import_timm()


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing_import(monkeypatch, ModuleNotFoundError("No module named 'timm'", name="timm"))
    with pytest.raises(UsageError, match=r"needs timm: pip install 'milbench\[features\]'"):
        import_timm()


def _failing_import(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    real = builtins.__import__

    def fail(name: str, *rest: Any, **named: Any) -> Any:
        if name == "timm":
            raise error
        return real(name, *rest, **named)

    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.setattr(builtins, "__import__", fail)
