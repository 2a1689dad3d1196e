"""Cores: how many of them this process may use."""

from __future__ import annotations

import os

from milbench.process.control_groups import within_cores


def usable_cores() -> int:
    """Cores that this process may use: a SLURM job or container may own fewer than the machine has, or a share of their time."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return within_cores(mine)
