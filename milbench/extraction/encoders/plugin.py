"""Plug-in: an encoder of a user's own, one function in a file after `--plugin`.

Either a function that makes a module::

    @register_encoder("mine", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), size=224)
    def mine() -> nn.Module:
        return MyNetwork()

or one that makes features [B, D] of images [B, 3, S, S], float32 on the command's device::

    @register_encoder("colours")
    def colours(images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import nn

from milbench.errors import DataError, MilbenchError, UsageError
from milbench.extraction.encoders.network import Asked, Network
from milbench.extraction.encoders.resnet50 import KINDS
from milbench.extraction.transform import Colours, fitting

Maker = TypeVar("Maker", bound=Callable[..., Any])


class Registered(NamedTuple):
    """A user's function, and what its decorator says."""

    make: Callable[..., Any]
    size: int | None
    mean: Colours
    std: Colours
    pooling: str


REGISTERED: dict[str, Registered] = {}
"""Encoders of plug-ins by name."""


def register_encoder(
    name: str,
    *,
    size: int | None = None,
    mean: Colours = (0.0, 0.0, 0.0),
    std: Colours = (1.0, 1.0, 1.0),
    pooling: str = "as the plug-in does",
) -> Callable[[Maker], Maker]:
    """Decorator of a function that makes a module (no argument) or features of images (one argument).

    Parameters
    ----------
    size : edge of the images in pixels; whole tiles are resized to it (bicubic, antialias). None = as tiles are.
    mean, std : images are (tile - mean) / std, with tiles from 0 to 1.
    pooling : in words, for the folder's `features.json`.

    Raises
    ------
    UsageError : the name is taken, or the function needs more than one argument.
    """
    if not name or set(name) & set(":?,/ ") or not name.isprintable():
        raise UsageError(f"no encoder can be called {name!r}. Use letters, digits, '-', '_' and '.'.")

    if name in KINDS:
        raise UsageError(f"'{name}' is an encoder of milbench. Call yours otherwise.")

    def register(make: Maker) -> Maker:
        taken = REGISTERED.get(name)
        if taken is not None and _where(taken.make) != _where(make):
            raise UsageError(f"two encoders are called '{name}': {_where(taken.make)} and {_where(make)}. Rename one.")
        if len(_needed(make)) > 1:
            raise UsageError(
                f"encoder '{name}' ({_where(make)}) needs {len(_needed(make))} arguments. Take none and return a module, or take images."
            )
        REGISTERED[name] = Registered(make, size, mean, std, pooling)
        return make

    return register


def plugin_network(asked: Asked) -> Network:
    """The network that a registered function is, or makes.

    Raises
    ------
    UsageError : weights are given, which a plug-in loads itself.
    DataError : the function fails, or makes no module.
    """
    found = REGISTERED[asked.name]
    where = _where(found.make)
    if asked.weights is not None or not asked.pretrained:
        raise UsageError(
            f"'{asked.name}' is a plug-in's encoder ({where}), which loads its weights itself. Leave --weights and --no-pretrained out."
        )
    module = None if _needed(found.make) else _made(asked.name, found.make)
    file = _file(found.make)
    facts = {
        "plugin": file.name,
        "plugin_sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "",
    }
    transform = fitting(found.size, asked.patch_size, "bicubic", found.mean, found.std)
    return Network(module or found.make, module, transform, found.pooling, f"plug-in {file.name}", facts, where)


def _made(name: str, make: Callable[..., Any]) -> nn.Module:
    try:
        module = make()
    except MilbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"encoder '{name}' ({_where(make)}) fails: {type(error).__name__}: {error}. Fix its file."
        ) from error
    if not isinstance(module, nn.Module):
        raise DataError(
            f"encoder '{name}' ({_where(make)}) returns a {type(module).__name__}. "
            "Return a torch.nn.Module, or take images as an argument."
        )
    return module


def _needed(make: Callable[..., Any]) -> list[str]:
    """Names of the arguments that a function cannot do without."""
    named = [
        each
        for each in inspect.signature(make).parameters.values()
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    return [each.name for each in named if each.default is each.empty]


def _file(make: Callable[..., Any]) -> Path:
    return Path(str(getattr(sys.modules.get(make.__module__), "__file__", None) or make.__module__))


def _where(make: Callable[..., Any]) -> str:
    return f"{_file(make)}, {getattr(make, '__qualname__', make)}"
