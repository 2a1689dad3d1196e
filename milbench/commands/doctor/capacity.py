"""Capacity: cores and memory of the machine, and what a container or a batch job leaves of them."""

from __future__ import annotations

import os

import psutil

from milbench.commands.doctor.section import Section
from milbench.machine.sizes import bytes_text
from milbench.process.control_groups import limits_of_groups
from milbench.process.cores import usable_cores
from milbench.process.memory import free_memory


def capacity() -> Section:
    """Cores and memory of the machine, and what of them this process may use."""
    memory, limits, usable, free = psutil.virtual_memory(), limits_of_groups(), usable_cores(), free_memory()
    values = {
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "core_limit": limits.cores,
        "memory_bytes": memory.total,
        "free_bytes": free,
        "memory_limit_bytes": limits.memory,
    }
    cores = f"{usable} of {os.cpu_count()} cores" + (f", limited to {limits.cores:g}" if limits.cores else "")
    room = f"{bytes_text(memory.total)} memory, {bytes_text(free)} free" + (
        f", limited to {bytes_text(limits.memory)}" if limits.memory else ""
    )
    return Section("machine", f"{cores}; {room}", values)
