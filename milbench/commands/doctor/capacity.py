"""Capacity: cores and memory of the machine, and what a container or a batch job leaves of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from milbench.commands.doctor.section import Remark, Section
from milbench.machine.sizes import bytes_text
from milbench.process.cores import usable_cores

MEMBERSHIP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")

UNLIMITED = 1 << 60
"""Version 1 of control groups says "no limit" with a number near 2 ** 63."""

ROOM = 0.8
"""Share of a limit that is left to milbench's bags: Python, torch and its threads take the rest."""


class Limits(NamedTuple):
    """What the control groups of this process allow; None = as much as there is."""

    cores: float | None
    memory: int | None


def capacity() -> Section:
    """Cores and memory of the machine, and what of them this process may use."""
    memory, limits, usable = psutil.virtual_memory(), limits_of_groups(), usable_cores()
    values = {
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "core_limit": limits.cores,
        "memory_bytes": memory.total,
        "free_bytes": memory.available,
        "memory_limit_bytes": limits.memory,
    }
    cores = f"{usable} of {os.cpu_count()} cores" + (f", limited to {limits.cores:g}" if limits.cores else "")
    room = f"{bytes_text(memory.total)} memory, {bytes_text(memory.available)} free" + (
        f", limited to {bytes_text(limits.memory)}" if limits.memory else ""
    )
    return Section("machine", f"{cores}; {room}", values, notes=remarks(limits, usable, memory.available))


def remarks(limits: Limits, usable: int, free: int) -> tuple[Remark, ...]:
    """What to tell milbench, which asks the machine and not its control groups."""
    found = []
    if limits.cores and limits.cores < usable:
        what = f"A control group allows {limits.cores:g} cores, and {usable} are seen, one worker for each."
        found.append(Remark(what, f"milbench run --workers {max(1, int(limits.cores))}"))
    if limits.memory and limits.memory < free:
        what = f"A control group allows {bytes_text(limits.memory)} of memory, less than is free on the machine."
        found.append(Remark(what, f"milbench run --memory {int(limits.memory * ROOM / 1e6)}MB"))
    return tuple(found)


def limits_of_groups(membership: Path = MEMBERSHIP, groups: Path = GROUPS) -> Limits:
    """The narrowest limits of the control groups that this process is in, of either version, and of those above them."""
    folders = list(_folders(membership, groups))
    cores = [found for folder in folders if (found := _cores(folder)) is not None]
    memory = [found for folder in folders if (found := _memory(folder)) is not None]
    return Limits(min(cores, default=None), min(memory, default=None))


def _folders(membership: Path, groups: Path) -> Iterator[Path]:
    """Folder of each group and of all above it. A container may show its own group as the root."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        for root in (groups / controllers, groups / "unified") if controllers else (groups, groups / "unified"):
            inside = root / place.lstrip("/")
            yield from (each for each in (inside, *inside.parents) if each.is_relative_to(root))


def _cores(folder: Path) -> float | None:
    words = _words(folder / "cpu.max") or [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
    numbers = [int(word) for word in words if word.isdigit()]  # else "max" or -1
    return numbers[0] / numbers[1] if len(numbers) == 2 and numbers[1] else None


def _memory(folder: Path) -> int | None:
    words = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
    return int(words[0]) if words and words[0].isdigit() and int(words[0]) < UNLIMITED else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
