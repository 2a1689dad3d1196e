"""Kernels: whether models may use fused GPU kernels in place of several operations.

It is a setting of where a run computes (`engine.kernels`), not of what it computes: results agree up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from milbench.errors import UsageError

KERNELS = ("plain", "fused")

_now = ["plain"]
"""The choice of this process. No context variable: on a GPU, autograd recomputes forwards in threads of its own."""


def wants_fused_kernels() -> bool:
    """Whether a model may use its fused kernels now."""
    return _now[0] == "fused"


def has_triton() -> bool:
    """Whether triton, in which fused kernels are written, is installed."""
    return find_spec("triton") is not None


def check_kernels(name: str, device_type: str) -> None:
    """Refuse fused kernels on a GPU where they cannot be compiled. On other devices they are not used.

    Raises
    ------
    UsageError : triton is missing.
    """
    if name == "fused" and device_type == "cuda" and not has_triton():
        raise UsageError(
            "engine.kernels is 'fused', and fused kernels need the package 'triton', which is not installed. "
            "Install it with: python -m pip install 'milbench[gpu]'. Or leave engine.kernels at 'plain'."
        )


@contextmanager
def kernels(name: str) -> Iterator[None]:
    """Inside, models use these kernels, in every thread and in backwards. The former choice comes back."""
    former = _now[0]
    try:
        _now[0] = name
        yield
    finally:
        _now[0] = former
