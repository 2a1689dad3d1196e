"""Library: timm, imported and asked, with every known failure as one message."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from milbench.errors import UsageError
from milbench.formats.opening import reason_of
from milbench.process.generators import generators_left_as_they_were, seed_global_generators

SEED = 0
"""Of weights that are not trained: the same in every run, so that tests repeat."""

HUB = "hf-hub:"

LONGEST_REASON = 200
"""Characters of torch's list of weights that a message shows."""

OFFLINE = (
    "On a machine with a network, the same command fills the cache (~/.cache/huggingface, or HF_HOME). Copy that folder here and "
    "set HF_HUB_OFFLINE=1. {file} For a test without trained weights of a timm model: --no-pretrained."
)
"""What to do if weights cannot be downloaded."""


def import_timm() -> Any:
    """The module timm.

    Raises
    ------
    UsageError : it is not installed, or its torchvision does not match torch.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UsageError(f"this encoder needs {error.name}: pip install 'milbench[features]'.") from error
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise UsageError(
            f"timm cannot be imported ({reason_of(error)}). Most likely torchvision and torch ({torch.__version__}) are different builds, "
            "such as one for CUDA and one for the CPU. Install both from one index, for example: "
            "pip install --force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cpu"
        ) from error
    return timm


def create(name: str, *, pretrained: bool) -> nn.Module:
    """The timm model called `name` without its classifier, float32, on the CPU, in eval mode.

    Trained weights must fit the network one by one. Others are drawn from a fixed seed.

    Raises
    ------
    UsageError : there is no such model, or its weights cannot be had.
    """
    timm = import_timm()
    if not name.startswith(HUB):
        _refuse_unknown(timm, name)
    with _failing_clearly(name), _own_draws():
        # A classifier of the trained size makes timm compare all weights; without one it would pass over those that are missing.
        model: nn.Module = timm.create_model(name, pretrained=pretrained)
        model.reset_classifier(0)  # type: ignore[operator]
    return model.float().eval()


@contextmanager
def _own_draws() -> Iterator[None]:
    """Inside, random numbers start from a fixed seed; afterwards they continue as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]), generators_left_as_they_were():
        torch.default_generator.manual_seed(SEED)  # the CPU's alone, where networks are made
        seed_global_generators(SEED, 0)
        yield


def _refuse_unknown(timm: Any, name: str) -> None:
    """UsageError for a name or a tag that timm does not have."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.6)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(
            f"timm {timm.__version__} has no model '{architecture}'. {hint}"
            f"`timm.list_models('*{architecture.split('_', maxsplit=1)[0]}*')` in Python lists those of the kind."
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        known = f"Tags: {', '.join(tags)}." if tags else "timm has no trained weights of it."
        raise UsageError(f"timm {timm.__version__} has no weights '{tag}' of {architecture}. {known}")


@contextmanager
def _failing_clearly(name: str) -> Iterator[None]:
    """Turn what timm and huggingface_hub raise inside into a UsageError that says what to do."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # it would print two lines for each try to reach the network
    try:
        yield
    except Exception as error:
        raise UsageError(_what_to_do(name, error)) from error
    finally:
        hub.setLevel(level)


def _what_to_do(name: str, error: Exception) -> str:
    """A message for an error of timm or huggingface_hub, by the kinds of errors that led to it."""
    kinds = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    page = f"https://huggingface.co/{name.removeprefix(HUB).partition('@')[0]}"
    # the page's file that describes the network cannot be had either, so timm's name of the network must be given
    network = "timm:ARCHITECTURE" if name.startswith(HUB) else f"timm:{name}"
    file = f"Or give the downloaded file of weights: --encoder {network} --weights FILE."
    if "GatedRepoError" in kinds:
        return (
            f"{name} is gated: its owners give it to users who accept their terms. Accept them on {page}, then log in here with "
            f"`hf auth login` (older: `huggingface-cli login`) or set HF_TOKEN. {file}"
        )
    if "RepositoryNotFoundError" in kinds:
        return f"there is no model {page}, or it is private. Check the name. For a private one use `hf auth login` or set HF_TOKEN."
    if "OfflineModeIsEnabled" in kinds:
        return f"{name} is not in this machine's cache, and HF_HUB_OFFLINE is set. {OFFLINE.format(file=file)}"
    if kinds & {"LocalEntryNotFoundError", "ConnectionError", "URLError", "TransportError", "TimeoutError"}:
        return f"{name} cannot be downloaded ({reason_of(list(_causes(error))[-1])}). {OFFLINE.format(file=file)}"
    if "No pretrained weights exist" in str(error):
        return f"timm has no trained weights of {name}. Give a file after --weights, or name a model that has some (timm.list_pretrained())."
    if "state_dict" in str(error):
        return (
            f"the weights of {name} do not fit the network that their page describes ({_first_misfit(error)}). Some models need "
            "arguments of their own: write such an encoder as a plug-in of one function (docs/features.md)."
        )
    return f"{name} cannot be made: {type(error).__name__}: {reason_of(error)}. Check the name after --encoder."


def _first_misfit(error: Exception) -> str:
    """The line of torch's error that names the first weights that do not fit."""
    lines = [line.strip() for line in str(error).splitlines()]
    return (lines[1] if len(lines) > 1 else lines[0])[:LONGEST_REASON].rstrip(". ")


def _causes(error: Exception) -> Iterator[Exception]:
    """The error and those that led to it, last first."""
    cause: BaseException | None = error
    while isinstance(cause, Exception):
        yield cause
        cause = cause.__cause__ or cause.__context__
