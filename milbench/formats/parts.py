"""Parts of a file, read side by side by one pool for all reads of this process, and memory of each of its threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

MOST_THREADS = 8

LARGEST_KEPT = 2 << 20
"""Bytes of a thread's memory that are kept for the next part."""

_pool: tuple[int, int, ThreadPoolExecutor] | None = None
_starting = threading.Lock()
_own = threading.local()
Part = TypeVar("Part")


def in_threads(work: Callable[[Part], None], parts: Sequence[Part], n_threads: int) -> None:
    """Call `work` with each part, at most `MOST_THREADS` at once; the first error that a part raises is raised, when all have ended.

    The caller takes parts from the end. If it only waited, the system might wake two threads on its core and leave another idle.
    """
    n_threads = min(n_threads, MOST_THREADS)
    if n_threads == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    waiting = [_threads(n_threads - 1).submit(work, part) for part in parts]
    try:
        for part, each in zip(reversed(parts), reversed(waiting), strict=True):
            if each.cancel():  # nobody has begun it
                work(part)
        for each in waiting:
            if not each.cancelled():
                each.result()
    finally:  # none may write after the array has been given back
        for each in waiting:
            each.cancel()
        for each in waiting:
            each.cancelled() or each.exception()


def _threads(n_threads: int) -> ThreadPoolExecutor:
    """One pool for all reads, so that bags that are read side by side do not add up. A fork starts its own."""
    global _pool
    with _starting:
        if _pool is None or _pool[:2] != (os.getpid(), n_threads):
            _pool = (os.getpid(), n_threads, ThreadPoolExecutor(n_threads, "milbench-read"))
        return _pool[2]


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
        read = os.preadv(descriptor, [memory[done:]], address + done)
        if not read:
            raise EOFError("it ends too early")
        done += read
