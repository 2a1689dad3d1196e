"""Parts of a file, read side by side by one pool for all reads of this process, and memory of each of its threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np

from milbench.formats.lock import lock_free_after_fork

MOST_THREADS = 8

AT_ONCE = 1 << 17
"""Bytes that the system is asked for at a time. It reads ahead of small requests; one of 20 MB from a disk took 1.6 times as long (Linux 6.18)."""

LARGEST_KEPT = 2 << 20
"""Bytes of a thread's memory that are kept for the next part."""

_pool: tuple[int, int, ThreadPoolExecutor] | None = None
_starting = lock_free_after_fork()
_own = threading.local()
Part = TypeVar("Part")


def in_threads(work: Callable[[Part], None], parts: Sequence[Part], n_threads: int) -> None:
    """Call `work` with each part, at most `MOST_THREADS` at once; the first error that a part raises is raised, when all have ended."""
    n_threads = min(n_threads, MOST_THREADS)
    if n_threads == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    pool = _threads(n_threads)
    waiting = [pool.submit(work, part) for part in parts]
    try:
        wait(waiting, return_when=FIRST_EXCEPTION)  # the caller wakes once, and not for each part
    finally:  # none may write after the array has been given back
        for each in waiting:
            each.cancel()
        wait(waiting)
    for each in waiting:
        if not each.cancelled():
            each.result()


def _threads(n_threads: int) -> ThreadPoolExecutor:
    """One pool for all reads, so that bags that are read side by side do not add up. A fork starts its own."""
    global _pool
    with _starting:
        if _pool is None or _pool[:2] != (os.getpid(), n_threads):
            shares: SimpleQueue[list[int]] = SimpleQueue()
            for share in _shares(n_threads):
                shares.put(share)
            _pool = (os.getpid(), n_threads, ThreadPoolExecutor(n_threads, "milbench-read", _keep_to, (shares,)))
        return _pool[2]


def _shares(n_threads: int) -> list[list[int]]:
    """Cores of each thread: no two threads share one. Nothing to share out where there are fewer, or the system knows no such thing.

    Threads that wake each other for Python's lock are put on one core by Linux in a virtual machine, while another core sleeps:
    a third of the time of a bag with gzip and shuffle.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    return [cores[number::n_threads] for number in range(n_threads)] if len(cores) >= n_threads else []


def _keep_to(shares: SimpleQueue[list[int]]) -> None:
    """Keep this thread to the next share. A system that forbids it lets it run anywhere."""
    with suppress(Empty, OSError):
        os.sched_setaffinity(0, shares.get_nowait())


def scratch(n_bytes: int, name: str = "stored") -> memoryview:
    """Memory of this thread by its name, which stays in its cache from part to part. Larger pieces are not kept."""
    if n_bytes > LARGEST_KEPT:
        return memoryview(np.empty(n_bytes, np.uint8).data)
    kept = getattr(_own, name, None)
    if kept is None or len(kept) < n_bytes:
        kept = memoryview(np.empty(n_bytes, np.uint8).data)
        setattr(_own, name, kept)
    return kept[:n_bytes]


def fill(descriptor: int, memory: memoryview, address: int) -> None:
    """Read as many bytes as `memory` has, from `address` on.

    Raises
    ------
    EOFError : the file has fewer.
    """
    done = 0
    while done < len(memory):
        read = os.preadv(descriptor, [memory[done : done + AT_ONCE]], address + done)
        if not read:
            raise EOFError("it ends too early")
        done += read
