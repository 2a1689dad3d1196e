"""Signals: Ctrl-C and SIGTERM reach every process of a group, and only the command decides what they mean."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started in the block, and by threads that are, never see a signal to stop.

    A blocked signal stays blocked from a process's first instruction on, where a handler would be set seconds too late.
    """
    resource_tracker.ensure_running()  # else it starts with the first child, and unblocks both signals when it has
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
