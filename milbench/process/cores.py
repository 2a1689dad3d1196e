"""Cores: how many of them this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores that this process may use: a SLURM job or container may own fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
