"""Lock: one that nobody holds in a process that was copied by a fork. A thread that reads ahead may hold it at that moment."""

from __future__ import annotations

import os
import threading


def lock_free_after_fork() -> threading.Lock:
    """A lock that a fork waits for. Without this, a copied process would wait for a thread that it does not have."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
