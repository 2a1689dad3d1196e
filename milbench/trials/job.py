"""Jobs, groups and passes: what the command sends to its workers; a status is what comes back.

A `DataPass` holds `JobGroup`s, a `JobGroup` holds `Job`s, and each `Job` is one trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    others : finished trials of the same stack. If the job trains in a stack, they are trained with it: the last digits
        then do not depend on which trials were finished before.
    trains_in_stack : whether trials that may share a stack take their steps together.
    workers, gpu_workers : how many workers share this machine's memory, and how many share the worker's GPU (0 = all).
    memory_bytes : what all workers of a machine may use together; 0 = what is free.
    checkpoint_seconds : shortest time between two checkpoints.
    kernels : "fused" if models may use their fused GPU kernels, else "plain".
    cuda_graphs : whether models replay steps and validations as CUDA graphs.
    """

    run: Path
    trial: Trial
    source: CohortSource
    plugins: tuple[Path, ...] = ()
    threads: int = 1
    device: str = "cpu"
    keep_weights: bool = True
    others: tuple[Trial, ...] = ()
    trains_in_stack: bool = True
    workers: int = 1
    gpu_workers: int = 0
    memory_bytes: int = 0
    checkpoint_seconds: float = 60.0
    kernels: str = "plain"
    cuda_graphs: bool = False


@dataclass(frozen=True)
class JobGroup:
    """Jobs that are trained as one stack, of one fold or one of each fold; a single job if it does not train in a stack."""

    jobs: tuple[Job, ...]

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    def __len__(self) -> int:
        return len(self.jobs)

    @property
    def first(self) -> Job:
        """The job that speaks for all where they are alike: all but task, learning rate and weight decay, or all but the fold."""
        return self.jobs[0]

    @property
    def has_folds(self) -> bool:
        """Whether its trials are of several folds, those that are trained along included."""
        others = self.first.others if self.first.trains_in_stack else ()
        return len({trial.fold for trial in (*others, *(job.trial for job in self.jobs))}) > 1


@dataclass(frozen=True)
class DataPass:
    """Groups that one process computes together, reading each bag once per epoch for all: the unit of scheduling.

    Their trials share cohort, split, scaling and seed.
    """

    groups: tuple[JobGroup, ...]

    @classmethod
    def of_one(cls, job: Job) -> DataPass:
        """The pass of a single job."""
        return cls((JobGroup((job,)),))

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs of all groups, in order."""
        return tuple(job for group in self.groups for job in group)

    @property
    def first(self) -> Job:
        """The job that speaks for all where they are alike, and that names the pass's files."""
        return self.groups[0].first

    def only_groups(self, wanted: Callable[[JobGroup], bool]) -> DataPass:
        """The wanted groups, each whole; may be empty."""
        return DataPass(tuple(group for group in self.groups if wanted(group)))

    def only_jobs(self, wanted: Callable[[Job], bool]) -> DataPass:
        """The wanted jobs in their groups, without the groups that have none; may be empty."""
        kept = (JobGroup(tuple(job for job in group if wanted(job))) for group in self.groups)
        return DataPass(tuple(group for group in kept if group.jobs))

    def placed_on(self, device: str, workers: int, gpu_workers: int) -> DataPass:
        """The pass with what only the machine that computes it can tell: its device, and how many workers share it."""
        device = resolve_device(device)
        return DataPass(
            tuple(
                JobGroup(tuple(replace(job, device=device, workers=workers, gpu_workers=gpu_workers) for job in group))
                for group in self.groups
            )
        )


class Status(NamedTuple):
    """Result of a job.

    Attributes
    ----------
    state : "done"; "already" (finished earlier or by another process); "busy" (another process holds it);
        "failed" (recorded, the run goes on); "refused" (bad input or disk: the run must stop);
        "skipped" (its model failed too often).
    message : one line that says why the job failed, was refused or was skipped; else empty.
    """

    job: Job
    state: Literal["done", "already", "busy", "failed", "refused", "skipped"]
    seconds: float
    message: str = ""
