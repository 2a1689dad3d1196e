"""What autocast makes of products here, and where it must not reach."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside, products on `device` keep their operands' dtype; nothing to do on devices that have no autocast (meta)."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def as_in_products(x: Tensor) -> Tensor:
    """`x` in the dtype that products on its device have here: autocast's where it is on, but for float64, else its own."""
    kind = x.device.type
    if x.dtype == torch.float64 or not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))
