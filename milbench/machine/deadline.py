"""Waiting that ends, whatever it is that one waits for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Deadline:
    """A moment after which nothing is waited for any longer.

    Parameters
    ----------
    seconds : from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left; 0 if it has passed."""
        return max(0.0, self._end - time.monotonic())

    def has_passed(self) -> bool:
        """Whether nothing is left."""
        return self.left() == 0.0


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns, or the error that it raises.

    The time limit of a socket counts silence. A server that sends one byte per minute never meets it, nor does a name
    server that hangs. So `work` has a thread of its own. A thread cannot be ended: if it is late it is left alone, and
    ends with the process at the latest. So it must do no harm if it goes on meanwhile.

    Raises
    ------
    TimeoutError : `work` takes longer than `seconds`.
    """
    return begun(work)(seconds)


def begun(work: Callable[[], T]) -> Callable[[float], T]:
    """`work` begins now, as in `within`; the function that is returned waits for its end, for so many seconds."""
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def call() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            results.put((None, error))

    def wait(seconds: float) -> T:
        try:
            result, error = results.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"no end after {seconds:g} s") from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    threading.Thread(target=call, name="within", daemon=True).start()
    return wait
