"""Others: how busy other programs keep this machine's cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter, process_time

import psutil

from milbench.machine.hardware import usable_cores


@dataclass
class OtherPrograms:
    """Programs beside this process.

    Attributes
    ----------
    cores : cores that they kept busy, such as 1.5; 0 until the block has ended, and where this process may not use all cores,
        because nobody can tell then on which of them the others are.
    """

    cores: float = 0.0


@contextmanager
def others_at_work() -> Iterator[OtherPrograms]:
    """Measure, while the block runs, how busy other programs keep this machine's cores."""
    others = OtherPrograms()
    wall, own, all_programs = perf_counter(), process_time(), _seconds_of_all()
    yield others
    wall, own, all_programs = perf_counter() - wall, process_time() - own, _seconds_of_all() - all_programs
    if wall > 0 and usable_cores() == psutil.cpu_count():
        others.cores = max(0.0, (all_programs - own) / wall)


def slowdown(workers: int, others: OtherPrograms) -> float:
    """How much longer a worker takes than alone, if `workers` and the others share the cores evenly; 1 if there are enough."""
    return max(1.0, (workers + others.cores) / usable_cores())


def _seconds_of_all() -> float:
    """Seconds in which a core was busy since the machine started, of all cores together."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))
