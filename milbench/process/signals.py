"""Signals: Ctrl-C and SIGTERM reach every process of a group; only the command acts on them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that start in the block, also from threads that start in it, never see a signal to stop.

    Signals are blocked from a child's first instruction on. A handler in the child would be set seconds too late.
    """
    resource_tracker.ensure_running()  # else it starts with the first child, and then unblocks both signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
