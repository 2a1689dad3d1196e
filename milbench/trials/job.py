"""What travels between the command and its workers: jobs, passes of jobs, and what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from milbench.datasets.source import CohortSource
from milbench.machine.hardware import resolve_device
from milbench.trials.plan import Trial


@dataclass(frozen=True)
class Job:
    """A trial and all that a process needs to compute it.

    Attributes
    ----------
    others : finished trials that differ from this one in their task only; they are trained along where `stacked`, so
        that the last digits do not depend on which of them were done before.
    stacked : whether such trials take their steps together.
    workers, gpu_workers : how many share this machine's memory, and how many this one's GPU (0 = all).
    memory_bytes : what all workers of a machine may use together; 0 = what is free.
    checkpoint_seconds : shortest time between two checkpoints.
    """

    run: Path
    trial: Trial
    source: CohortSource
    plugins: tuple[Path, ...] = ()
    threads: int = 1
    device: str = "cpu"
    keep_weights: bool = True
    others: tuple[Trial, ...] = ()
    stacked: bool = True
    workers: int = 1
    gpu_workers: int = 0
    memory_bytes: int = 0
    checkpoint_seconds: float = 60.0


Pass = tuple[Job, ...]
"""Jobs that one process computes together: the unit of scheduling. They share cohort, split, scaling and seed."""

Group = tuple[Job, ...]
"""Jobs of a pass that are trained as one stack; one job alone where they are not stacked."""


class Status(NamedTuple):
    """What became of a job.

    Attributes
    ----------
    state : "done"; "already" (finished earlier or by another process); "busy" (another process holds it);
        "failed" (recorded, the run goes on); "refused" (bad input or disk: the run must stop);
        "skipped" (its model failed too often).
    message : one line that says why, where it did not end well.
    """

    job: Job
    state: Literal["done", "already", "busy", "failed", "refused", "skipped"]
    seconds: float
    message: str = ""


def at_home(pass_: Pass, device: str, workers: int, gpu_workers: int) -> Pass:
    """The pass with what only the machine that computes it can tell: its device, and how many share its memory."""
    device = resolve_device(device)
    return tuple(replace(job, device=device, workers=workers, gpu_workers=gpu_workers) for job in pass_)


def groups_where(pass_: Pass, wanted: Callable[[Group], bool]) -> Pass:
    """The jobs of those stacks, whole, that are wanted."""
    return tuple(job for group in groups_of(pass_) if wanted(group) for job in group)


def groups_of(pass_: Pass) -> list[Group]:
    """The jobs that are trained as one stack, in the order of the first of each."""
    groups: dict[str, list[Job]] = {}
    for job in pass_:
        groups.setdefault(job.trial.stack_key if job.stacked else job.trial.key, []).append(job)
    return [tuple(group) for group in groups.values()]
