"""Supervisor: runs passes on a pool of processes and survives their deaths. It knows trials, not where they run.

A pool (loky, dask or SLURM) computes and writes; this process feeds it and records what became of each job. If a worker
dies (out of memory, a crash in native code), its pass is tried again whole, with nothing else running: a pass that was
not to blame then ends with the same result. If the worker dies again, the pass is divided and its trials are tried one by
one. A trial whose worker dies once more, or that hangs past its time, is recorded as failed.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

from milbench.engines.alarm import hang_trace
from milbench.engines.pass_result import PassResult
from milbench.engines.record import failure_record
from milbench.errors import MilbenchError
from milbench.store.run import Run
from milbench.store.run_writing import write_failure
from milbench.trials.job import DataPass, Job, JobGroup, Status

MAX_DEATHS = 2
"""Deaths of its worker after which a pass is divided, and a job that ran alone counts as failed."""

BUSY_WAIT_SECONDS = 0.5


class WorkerKilledError(MilbenchError):
    """A trial's process died without raising an error."""


class Pool(Protocol):
    """Somewhere to run passes."""

    def run(self, passes: Iterator[DataPass], *, alone: bool) -> Iterator[PassResult]:
        """Result of each pass as it ends; takes the next pass only when a worker is free.

        If `alone`, passes run one at a time and never in this process.
        """
        ...


class Interrupts:
    """First Ctrl-C (or SIGTERM): finish the passes that are running. Second: stop at once."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self.announce = announce
        self.requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        with suppress(Exception, SystemExit):  # the same Ctrl-C may have ended the reader of a pipe
            self.announce("stopping: the running trials are finished first. Press Ctrl-C again to stop at once.")

    @contextmanager
    def installed(self) -> Iterator[Interrupts]:
        """Handle SIGINT and SIGTERM inside the block. Outside the main thread nothing changes, since Python forbids it."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        former = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


class Halt(Protocol):
    """A request to stop: `Interrupts`, or a file between machines."""

    requested: bool


def execute(
    passes: Sequence[DataPass],
    pool: Pool,
    halt: Halt,
    *,
    max_failures: int = 0,
    takes: Callable[[Job], bool] | None = None,
    on_busy: Callable[[], None] = lambda: None,
) -> Iterator[Status]:
    """Status of every job as it ends; if asked to halt, or if a job is refused, no further pass starts.

    Parameters
    ----------
    max_failures : if this many trials of a model on a dataset fail before any succeeds, the rest is skipped; 0 = never.
    takes : asked of every job before it starts; a job that is declined is left to others, and nobody waits for it.
    on_busy : called each time that nothing is left but what other processes hold.

    Raises
    ------
    KeyboardInterrupt : stopped at once; finished trials are on disk.
    """
    ledger = _Ledger(passes, max_failures)
    while ledger.pending and not halt.requested:
        before = ledger.events
        to_try, alone = ledger.next_round()
        for result in pool.run(_feed(to_try, ledger, halt, takes), alone=alone):
            for status in ledger.record(result):
                if status.state == "refused":
                    halt.requested = True
                yield status
        yield from ledger.skip_failing_models()
        if ledger.events == before and not halt.requested:
            if takes:
                return
            on_busy()
            time.sleep(BUSY_WAIT_SECONDS)  # another milbench on this folder holds what is pending


def _feed(
    passes: Sequence[DataPass], ledger: _Ledger, halt: Halt, takes: Callable[[Job], bool] | None
) -> Iterator[DataPass]:
    """Passes one by one until asked to halt, without jobs of failing models and without groups that are declined."""
    for data_pass in passes:
        if halt.requested:
            return
        remaining = data_pass.only_jobs(lambda job: not ledger.keeps_failing(job))
        remaining = remaining.only_groups(lambda group: takes is None or all(map(takes, group)))
        if remaining.groups:
            yield remaining


class _Ledger:
    """What is still to do, and how often each job's worker died.

    Attributes
    ----------
    pending : jobs without a final status, by trial key.
    deaths : how often a worker died with the trial, by trial key.
    failures : failed trials by (dataset, model).
    succeeded : (dataset, model) pairs of which a trial is done.
    """

    def __init__(self, passes: Sequence[DataPass], max_failures: int) -> None:
        self.passes, self.max_failures = passes, max_failures
        self.pending = {job.trial.key: job for data_pass in passes for job in data_pass.jobs}
        self.deaths: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        self.succeeded: set[tuple[str, str]] = set()

    @property
    def events(self) -> tuple[int, int]:
        """Changes with every job that ends and every worker that dies."""
        return len(self.pending), self.deaths.total()

    def next_round(self) -> tuple[list[DataPass], bool]:
        """Passes to try next, and whether each must run alone: first all groups whose worker never died."""
        unfinished = [data_pass.only_groups(self._is_unfinished) for data_pass in self.passes]
        unharmed = [data_pass.only_groups(self._never_died) for data_pass in unfinished]
        if any(data_pass.groups for data_pass in unharmed):
            return [data_pass for data_pass in unharmed if data_pass.groups], False
        retry_alone = [data_pass.only_jobs(lambda job: not self._must_divide(job)) for data_pass in unfinished]
        retry_one_by_one = [DataPass.of_one(job) for job in self.pending.values() if self._must_divide(job)]
        return [data_pass for data_pass in retry_alone if data_pass.groups] + retry_one_by_one, True

    def _is_unfinished(self, group: JobGroup) -> bool:
        """Whether a job of the group is pending; the whole group is then tried again, and done jobs are trained along."""
        return any(job.trial.key in self.pending for job in group)

    def _never_died(self, group: JobGroup) -> bool:
        """Whether no worker died with a job of the group; if one did, the whole group is tried again alone."""
        return not any(self.deaths[job.trial.key] for job in group)

    def _must_divide(self, job: Job) -> bool:
        return self.deaths[job.trial.key] >= MAX_DEATHS

    def record(self, result: PassResult) -> Iterator[Status]:
        """Final statuses that the result brings."""
        return self.record_worker_death(result.jobs) if result.worker_died else self.record_statuses(result.statuses)

    def record_statuses(self, statuses: Sequence[Status]) -> Iterator[Status]:
        """The statuses that are final; a busy job stays pending, since another process holds it."""
        for status in statuses:
            if status.state == "busy" or self.pending.pop(status.job.trial.key, None) is None:
                continue
            pair = _dataset_and_model(status.job)
            if status.state == "failed":
                self.failures[pair] += 1
            elif status.state != "refused":
                self.succeeded.add(pair)
            yield status

    def record_worker_death(self, jobs: Sequence[Job]) -> Iterator[Status]:
        """Final statuses of jobs whose worker died: what it stored is done, a lone job may now have failed."""
        trace = hang_trace(jobs[0])
        for job in jobs:
            self.deaths[job.trial.key] += MAX_DEATHS if trace else 1  # what hung would hang again: divide it at once
            if Run(job.run).trial(job.trial.id) is not None:
                yield from self.record_statuses([Status(job, "done", 0.0)])
            elif trace and len(jobs) == 1:
                yield from self.record_statuses([_timed_out(job, trace)])
            elif self._must_divide(job) and len(jobs) == 1:
                yield from self.record_statuses([_killed(job)])

    def keeps_failing(self, job: Job) -> bool:
        """Whether the job's model has failed `max_failures` times, and never succeeded, on the job's dataset."""
        pair = _dataset_and_model(job)
        return 0 < self.max_failures <= self.failures[pair] and pair not in self.succeeded

    def skip_failing_models(self) -> Iterator[Status]:
        """Skipped status of each pending job of a model that keeps failing."""
        reason = f"the first {self.max_failures} trials of its model failed"
        for job in [job for job in self.pending.values() if self.keeps_failing(job)]:
            del self.pending[job.trial.key]
            yield Status(job, "skipped", 0.0, reason)


def _dataset_and_model(job: Job) -> tuple[str, str]:
    return job.trial.dataset, job.trial.model


def _killed(job: Job) -> Status:
    """Failed status of a job whose process died `MAX_DEATHS` times, the last time alone."""
    error = WorkerKilledError(
        "the trial's process was killed twice, probably because memory ran out. "
        "Use fewer workers (--workers) or smaller bags, then run the same command again."
    )
    write_failure(Run(job.run), job.trial.key, failure_record(job.trial, error))
    return Status(job, "failed", 0.0, str(error))


def _timed_out(job: Job, trace: str) -> Status:
    """Failed status of a job that hung; its record says where."""
    error = TimeoutError(
        "the trial took longer than --trial-timeout allows and was stopped. "
        "If it was only slow, raise --trial-timeout, then run the same command again."
    )
    record = {**failure_record(job.trial, error), "traceback": trace}
    write_failure(Run(job.run), job.trial.key, record)
    return Status(job, "failed", 0.0, f"TimeoutError: {error}")
