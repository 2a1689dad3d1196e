"""Memory: how much of it this process may use, of the machine's and of its container's or batch job's."""

from __future__ import annotations

import psutil

from milbench.process.control_groups import within_memory


def free_memory() -> int:
    """Bytes that are free for this process."""
    return within_memory(psutil.virtual_memory().available, free=True)


def total_memory() -> int:
    """Bytes that this process and its neighbours in the same container or job may have in all."""
    return within_memory(psutil.virtual_memory().total, free=False)
