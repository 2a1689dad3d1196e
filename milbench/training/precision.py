"""Precision: the arithmetic of a training step, by its name.

============  =====================================================================================
``float32``   every number and product in float32, on a GPU too
``tf32``      float32 numbers whose products an NVIDIA GPU rounds to TF32 (10 bits of mantissa)
``bf16``      products over patches in bfloat16 (7 bits of mantissa) by autocast; softmax, sums, what is
              pooled, weights and loss float32
============  =====================================================================================

A step in one of them::

    with float32_products(name):
        with arithmetic(name, device):
            output = model(bag)
        loss = model.loss(as_float32(output), target, known)
        loss.backward()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from milbench.errors import UsageError, unknown_name
from milbench.models import BagOutput

PRECISIONS = ("float32", "tf32", "bf16")

CPU_INFO = Path("/proc/cpuinfo")
BF16_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Linux's names of a processor's bfloat16 arithmetic: the first two on x86, the last on ARM."""

TENSOR_CORES_OF = 8
"""Compute capability of the first NVIDIA GPUs with TF32 and bfloat16 arithmetic (Ampere)."""


def check_precision(name: str, device: torch.device) -> str:
    """A warning if `name` works on `device` but is slow there, else "".

    Raises
    ------
    UsageError : there is no such precision, or the device does not have it.
    """
    if name not in PRECISIONS:
        raise unknown_name("precision", name, PRECISIONS)
    if name == "tf32" and not _is_ampere(device):
        raise UsageError(
            f"precision 'tf32' cannot be used on {_title(device)}: TF32 exists on NVIDIA GPUs of compute capability "
            f">= {TENSOR_CORES_OF} only. Use --precision float32, or another --device."
        )
    if name == "bf16" and not _multiplies_bf16(device):
        return (
            f"precision 'bf16' works on {_title(device)} but is emulated there, as it has no bfloat16 instructions, "
            "and slower than float32 (a CPU: hundreds of times slower on large bags). "
            "Use --precision float32, unless its effect on the results is what you measure."
        )
    return ""


def _is_ampere(device: torch.device) -> bool:
    """Whether `device` is an NVIDIA GPU with TF32 and bfloat16 arithmetic."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device)[0] >= TENSOR_CORES_OF


def _multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has bfloat16 arithmetic. A system that does not tell counts as yes."""
    if device.type == "cuda" and torch.version.hip is None:
        return _is_ampere(device)
    if device.type != "cpu" or not CPU_INFO.exists():
        return True
    return not BF16_INSTRUCTIONS.isdisjoint(CPU_INFO.read_text().split())


def _title(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"this {device.type.upper()}"


# ---- around a forward ----------------------------------------------------------------------------


@contextmanager
def float32_products(name: str) -> Iterator[None]:
    """Inside, float32 matrix products and convolutions are rounded to TF32 if `name` is "tf32", else not at all.

    The flags belong to the process. So they hold in every thread, and in a backward too. Former values come back.
    """
    former, former_convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        # more than `cuda.matmul.allow_tf32`: "medium", whoever set it, makes a CPU's products bfloat16
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = name == "tf32"
        yield
    finally:
        torch.set_float32_matmul_precision(former)
        torch.backends.cudnn.allow_tf32 = former_convolutions


@contextmanager
def arithmetic(name: str, device: torch.device) -> Iterator[None]:
    """Inside, a forward on `device` computes in precision `name`; weights stay float32.

    It is for the forward alone: under bf16 neither loss nor backward belong inside. For float32 and tf32, put
    `float32_products` around the backward too, which computes two thirds of the products.
    """
    with ExitStack() as stack:
        stack.enter_context(float32_products(name))
        if name == "bf16":
            stack.enter_context(torch.autocast(device.type, torch.bfloat16))
            stack.enter_context(bags_in_float32())
        yield


def as_float32(output: BagOutput) -> BagOutput:
    """The same output with every floating tensor in float32, for a loss outside autocast. Gradients flow through."""
    attention = None if output.attention is None else _as_float32(output.attention)
    return BagOutput(
        _as_float32(output.logits), attention, {name: _as_float32(tensor) for name, tensor in output.aux.items()}
    )


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


# ---- what stays float32 inside -------------------------------------------------------------------


SUMS = frozenset(
    {
        torch.softmax, torch.Tensor.softmax, functional.softmax, torch.special.softmax,
        torch.log_softmax, torch.Tensor.log_softmax, functional.log_softmax, torch.special.log_softmax,
        torch.logsumexp, torch.Tensor.logsumexp, torch.special.logsumexp, functional.softmin,
        torch.sum, torch.Tensor.sum, torch.mean, torch.Tensor.mean,
    }
)  # fmt: skip

PRODUCTS = frozenset(
    {
        torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, functional.linear,
        torch.mm, torch.Tensor.mm, torch.bmm, torch.Tensor.bmm, torch.conv1d, functional.conv1d,
    }
)  # fmt: skip

CONVOLUTIONS = frozenset({torch.conv1d, functional.conv1d})

THIN = 32
"""Rows or columns below which a product is thin. A thin product scores patches, pools them or works on the pooled bag.
It takes as long as reading its operands, so bfloat16 gains little. But a pooled bag that is rounded to three digits
looks like its neighbours."""

_promoted: ContextVar[bool] = ContextVar("bags_in_float32", default=False)


class _BagsInFloat32(TorchFunctionMode):
    """Mode that gives sums and thin products their bfloat16 operands as float32."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        tensors = [value for value in (*args, *named.values()) if isinstance(value, Tensor)]
        is_thin = func in PRODUCTS and _is_thin(func, *tensors)
        if not is_thin and func not in SUMS:
            return func(*args, **named)
        args = tuple(_promote(value) for value in args)
        named = {key: _promote(value) for key, value in named.items()}
        with ExitStack() as stack:
            if is_thin:
                stack.enter_context(torch.autocast(tensors[0].device.type, enabled=False))
            return func(*args, **named)


def _is_thin(func: Callable[..., Any], left: Tensor, right: Tensor, *_: Tensor) -> bool:
    if func is functional.linear:
        return min(left.shape[:-1].numel(), len(right)) < THIN
    if func in CONVOLUTIONS:  # DSMIL's head is one
        return min(left.shape[-1] - right.shape[-1] + 1, len(right)) < THIN
    rows, columns = (left.shape[-2] if left.dim() > 1 else 1), (right.shape[-1] if right.dim() > 1 else 1)
    return min(rows, columns) < THIN


def _promote(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value


@contextmanager
def bags_in_float32() -> Iterator[None]:
    """Inside, softmax, sums, means and thin products are computed and returned in float32.

    Autocast does this for some of them on a GPU and for none on a CPU. The block does it for functions, methods and layers.
    """
    before = _promoted.set(True)
    try:
        with _BagsInFloat32():
            yield
    finally:
        _promoted.reset(before)


def bags_as_here() -> Callable[[], AbstractContextManager[None]]:
    """Maker of contexts in which sums have the precision that they have here, to recompute a forward elsewhere."""
    return bags_in_float32 if _promoted.get() else ExitStack  # type: ignore[return-value]  # an empty one does nothing
