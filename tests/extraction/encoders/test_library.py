"""timm's failures become one message that says what to do."""

import builtins
import sys
from typing import Any
from urllib.error import URLError

import pytest
import timm
from encoders_for_tests import find

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
        r"not in this machine's cache, and HF_HUB_OFFLINE is set.*--weights.*--no-pretrained",
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


def test_weights_without_a_network_get_that_message_from_the_library_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"the weights of test_resnet are not in this machine's cache"):
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
