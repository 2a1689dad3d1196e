"""Must return: code of others may neither end the process nor keep it for ever."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class DidNotReturnError(BaseException):
    """Code of others tried to end the process, or took too long. No `except Exception` of that code catches it."""


@contextmanager
def must_return(seconds: float) -> Iterator[None]:
    """Inside, code may neither end the process nor take longer than `seconds`.

    A time limit holds in the main thread of systems with alarms only. Native code that never comes back to Python cannot
    be stopped.

    Raises
    ------
    DidNotReturnError : the code called `sys.exit` or `os._exit`, or took too long.
    """
    with no_exit(), _alarm(seconds):
        try:
            yield
        except SystemExit as error:
            raise DidNotReturnError(
                f"it ends the process with sys.exit({error.code if error.code else 0!r})"
            ) from error


@contextmanager
def no_exit() -> Iterator[None]:
    """Inside, `os._exit` raises `DidNotReturnError` in this thread instead of ending the process without a word."""
    former, mine = os._exit, threading.get_ident()

    def refuse(*code: Any) -> None:
        if threading.get_ident() != mine:  # such as the thread that ends a worker whose parent has died
            former(*code)
        raise DidNotReturnError(f"it ends the process with os._exit({', '.join(map(str, code))})")

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = former


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(_: int, frame: FrameType | None) -> None:
        where = f"; it stands in line {frame.f_lineno} of {frame.f_code.co_filename}" if frame else ""
        raise DidNotReturnError(f"it has not come back after {seconds:g} seconds{where}")

    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
