"""Dtypes of products under autocast: where autocast is switched off, and what it would choose."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Context in which products on `device` keep their operands' dtype.

    It does nothing on devices that have no autocast (meta).
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def as_in_products(x: Tensor) -> Tensor:
    """`x` in the dtype that products on its device have here: autocast's where it is on, else its own.

    float64 stays float64, as autocast leaves it alone.
    """
    return x.to(dtype_of_products(x))


def dtype_of_products(x: Tensor) -> torch.dtype:
    """The dtype of `as_in_products(x)`."""
    kind = x.device.type
    if x.dtype == torch.float64 or not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return x.dtype
    return torch.get_autocast_dtype(kind)
