"""Shared state: what all code of one process shares, put back after code of others has run.

A plug-in's model runs in the process that trains other models too. If the plug-in changes the default dtype, the
working folder or a signal's handler, the results and the behaviour of everything after it change.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from milbench.process.generators import generators_left_as_they_were


class Shared(NamedTuple):
    """Something that all code of a process shares.

    Attributes
    ----------
    name : in words, for a message.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


LIBRARIES = (
    "builtins",
    "math",
    "random",
    "numpy",
    "torch",
    "torch.nn",
    "torch.nn.functional",
    "torch.nn.init",
    "torch.linalg",
)
"""Modules whose functions all models use, besides those of milbench."""


_INHERITED = object()


class Moved(NamedTuple):
    """What code of others had changed, and has been put back."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name} ({self.before} -> {self.after})"


SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)

SET_BY_LIBRARIES = ("TORCHINDUCTOR_CACHE_DIR", "_MLFLOW_TELEMETRY_SESSION_ID")
"""Environment variables that no model sets: torch where torch.func differentiates for the first time (torch 2.13), MLflow where
a run's thread imports it beside the training."""

WARNING_FILTERS = "warning filters"
"""Each `warnings.catch_warnings` of another thread changes them for a moment, as pandas does where a run's thread reads a table.
So a change of them is put back, but is nobody's fault."""

OF_THE_SYSTEM = (
    Shared("the working folder", lambda: _working_folder(), os.chdir),
    Shared("environment variables", lambda: _environment(), lambda former: _set_environment(former)),
    Shared("signal handlers", lambda: _handlers(), lambda former: _set_handlers(former)),
    Shared("Python's recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Shared("NumPy's treatment of floating-point errors", np.geterr, lambda former: np.seterr(**former)),
    # read here, and put back by `left_as_it_was`
    Shared(WARNING_FILTERS, lambda: list(warnings.filters), lambda _: None),
)


def of_torch() -> tuple[Shared, ...]:
    """Torch's settings that results depend on; they are read in less than a microsecond each."""
    import torch

    return (
        Shared("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        Shared("torch's default device", lambda: torch.empty(0).device.type, _set_default_device),
        Shared("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
        Shared("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
        Shared(
            "torch's deterministic algorithms",
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
        ),
        Shared("torch's anomaly mode", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        Shared("torch's precision of products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        Shared("torch's autocast", lambda: torch.is_autocast_enabled("cpu"), _set_autocast),
        Shared("cuDNN's deterministic flag", lambda: torch.backends.cudnn.deterministic, _set_cudnn("deterministic")),
        Shared("cuDNN's benchmark flag", lambda: torch.backends.cudnn.benchmark, _set_cudnn("benchmark")),
    )


def read_shared(everything: tuple[Shared, ...]) -> list[Any]:
    """Values of what is shared, in order."""
    return [shared.read() for shared in everything]


def put_back(everything: tuple[Shared, ...], before: list[Any]) -> list[Moved]:
    """What differs from the values `before`, set to them again."""
    moved: list[Moved] = []
    after = read_shared(everything)
    if after == before:
        return moved
    for shared, former, now in zip(everything, before, after, strict=True):
        if now != former:
            shared.write(former)
            moved.append(Moved(shared.name, *_difference(former, now)))
    return moved


@contextmanager
def left_as_it_was() -> Iterator[list[Moved]]:
    """Inside, code of others may run. After the block the list holds what the code changed, all of it put back."""
    everything = (*of_torch(), *OF_THE_SYSTEM)  # putting torch's settings back may import what sets variables
    moved: list[Moved] = []
    with warnings.catch_warnings(), generators_left_as_they_were():
        before = read_shared(everything)
        try:
            yield moved
        finally:
            moved += put_back(everything, before)


@contextmanager
def functions_left_as_they_were(module: str) -> Iterator[list[Moved]]:
    """Inside, the plug-in `module` is imported. Functions of others that it replaced by its own are put back, and listed after the block.

    What a library replaces, because the plug-in imports it, stays: the library may need it. If there is no `module`, nothing is
    looked at.
    """
    holders = _holders() if module else {}
    before = {
        (place, name): vars(holder).get(name, _INHERITED)
        for place, holder in holders.items()
        for name in _public(holder)
    }
    moved: list[Moved] = []
    try:
        yield moved
    finally:
        for (place, name), former in before.items():
            now = vars(holders[place]).get(name, former)
            if now is not former and getattr(now, "__module__", "") == module:
                _set_function(holders[place], name, former)
                moved.append(Moved(f"{place}.{name}", "its own", "the plug-in's"))


def _holders() -> dict[str, Any]:
    """Modules and classes whose functions all models use, by name."""
    import torch

    modules = {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "milbench"}
    modules |= {name: sys.modules[name] for name in LIBRARIES if name in sys.modules}
    return {**modules, "torch.Tensor": torch.Tensor, "torch.nn.Module": torch.nn.Module}


def _public(holder: Any) -> list[str]:
    """Names of its functions, those that a class inherits among them."""
    return [name for name in dir(holder) if not name.startswith("__") and callable(getattr(holder, name, None))]


def _set_function(holder: Any, name: str, former: Any) -> None:
    if former is _INHERITED:
        delattr(holder, name)
    else:
        setattr(holder, name, former)


def _difference(before: Any, after: Any) -> tuple[str, str]:
    """Both values in short; of a table of values only what differs, of a list only the length."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        return tuple(", ".join(f"{name}={side.get(name)}" for name in names[:3]) for side in (before, after))  # type: ignore[return-value]
    if isinstance(before, list):
        return f"{len(before)} of them", f"{len(after)}"
    return str(before), str(after)


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return ""


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in SET_BY_LIBRARIES}


def _set_environment(former: dict[str, str]) -> None:
    for name in set(_environment()) - set(former):
        del os.environ[name]
    os.environ.update(former)


def _handlers() -> dict[str, Any]:
    return {number.name: signal.getsignal(number) for number in SIGNALS}


def _set_handlers(former: dict[str, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        if former[number.name] is not None:  # one that was not set from Python cannot be
            signal.signal(number, former[number.name])


def _set_default_device(kind: str) -> None:
    import torch

    torch.set_default_device(None if kind == "cpu" else kind)  # a default of "cpu" would slow every new tensor down


def _set_autocast(former: bool) -> None:  # noqa: FBT001 - torch's own setter
    import torch

    torch.set_autocast_enabled("cpu", former)


def _set_cudnn(name: str) -> Callable[[bool], None]:
    def write(former: bool) -> None:  # noqa: FBT001
        import torch

        setattr(torch.backends.cudnn, name, former)

    return write
