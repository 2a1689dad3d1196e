"""Constants: tensors that follow from sizes alone, made once per process."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

P = ParamSpec("P")


def made_once(make: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """The function `make`, which gives the same tensor for the same arguments, and makes it once.

    While a model is exported, compiled or traced, a tensor is made anew each time: it may hold no numbers, or belong to that graph,
    and later calls would compute with it. In inference mode it is made outside of that mode, or no later step could keep it for its
    backward.
    """
    kept: dict[tuple[object, ...], Tensor] = {}

    @wraps(make)
    def constant(*given: P.args, **named: P.kwargs) -> Tensor:
        if torch.compiler.is_compiling() or torch._C._is_tracing() or _get_current_dispatch_mode() is not None:
            return make(*given, **named)
        key = (*given, *named.items())
        if key not in kept:
            with torch.inference_mode(mode=False):
                kept[key] = make(*given, **named)
        return kept[key]

    constant.kept = kept  # type: ignore[attr-defined]
    return constant
