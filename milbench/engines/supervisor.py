"""Engine: runs passes on a pool of processes and survives what they do. Knows trials, not where they run.

A pool (`milbench.engines`: loky, dask or SLURM) computes and writes; this process feeds it and watches. Where
a process dies (out of memory, a crash in native code), its pass is tried again as it was, with nothing beside it,
so that whoever was merely in the way ends with the same result. If it dies again it is divided and its trials
are tried one at a time; one that kills its process once more, or hangs past its time, is recorded as failed.
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
from milbench.engines.record import failure_record
from milbench.errors import MilbenchError
from milbench.store.run import Run
from milbench.trials.job import Job, Pass, Status, groups_where

MAX_KILLS = 2
"""Kills of its worker after which a pass is divided, and a job that was alone in it counts as failed."""

BUSY_WAIT_SECONDS = 0.5

Ended = tuple[Pass, list[Status] | None]
"""A pass and what became of its jobs; None where its process died."""


class WorkerKilledError(MilbenchError):
    """A trial's process died without a word."""


class Pool(Protocol):
    """Somewhere to run passes."""

    def run(self, passes: Iterator[Pass], *, alone: bool) -> Iterator[Ended]:
        """Each pass as it ends, drawing the next only when there is room; `alone` runs one at a time in a process tree."""
        ...


class Interrupts:
    """First Ctrl-C (or SIGTERM): finish what is in flight. Second: stop at once."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self.announce = announce
        self.requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        with suppress(Exception, SystemExit):  # the reader of a pipe may have died of the same Ctrl-C
            self.announce("stopping: the trials in flight are finished first; press Ctrl-C again to stop at once.")

    @contextmanager
    def installed(self) -> Iterator[Interrupts]:
        """Handle SIGINT and SIGTERM inside the block; elsewhere than in the main thread, nothing changes."""
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
    """Whoever may ask to stop: `Interrupts`, or a file between machines."""

    requested: bool


def execute(
    passes: Sequence[Pass],
    pool: Pool,
    halt: Halt,
    *,
    max_failures: int = 0,
    takes: Callable[[Job], bool] | None = None,
) -> Iterator[Status]:
    """Status of every job as it ends; stops feeding when asked to halt or when a job is refused.

    Parameters
    ----------
    max_failures : a model whose first so many trials on a dataset all fail is given up; 0 = never.
    takes : asked of every job before it starts; those declined are left to others, and nobody waits for them.

    Raises
    ------
    KeyboardInterrupt : stopped at once; finished trials are on disk.
    """
    ledger = _Ledger(passes, max_failures)
    while ledger.pending and not halt.requested:
        n_pending, n_kills = len(ledger.pending), ledger.kills.total()
        batch, alone = ledger.next_round()
        for pass_, statuses in pool.run(_fed(batch, ledger, halt, takes), alone=alone):
            for status in ledger.of_the_dead(pass_) if statuses is None else ledger.enter(statuses):
                if status.state == "refused":
                    halt.requested = True
                yield status
        yield from ledger.give_up()
        if (len(ledger.pending), ledger.kills.total()) == (n_pending, n_kills) and not halt.requested:
            if takes:
                return
            time.sleep(BUSY_WAIT_SECONDS)  # another milbench on this folder holds them


def _fed(batch: Sequence[Pass], ledger: _Ledger, halt: Halt, takes: Callable[[Job], bool] | None) -> Iterator[Pass]:
    """Passes one by one, without the jobs that are declined or given up, until asked to halt."""
    for pass_ in batch:
        if halt.requested:
            return
        jobs = tuple(job for job in pass_ if not ledger.is_hopeless(job))
        jobs = groups_where(jobs, lambda group: takes is None or all(map(takes, group)))
        if jobs:
            yield jobs


class _Ledger:
    """What is still to do, and who is suspected of killing its process."""

    def __init__(self, passes: Sequence[Pass], max_failures: int) -> None:
        self.passes, self.max_failures = passes, max_failures
        self.pending = {job.trial.key: job for pass_ in passes for job in pass_}
        self.kills: Counter[str] = Counter()
        self.failed: Counter[tuple[str, str]] = Counter()
        self.learned: set[tuple[str, str]] = set()

    def next_round(self) -> tuple[list[Pass], bool]:
        """Passes of unsuspected jobs; where none is left, those under suspicion one at a time, the divided ones by job."""
        left = [self._unfinished(pass_) for pass_ in self.passes]
        clean = [self._unsuspected(pass_) for pass_ in left]
        clean = [pass_ for pass_ in clean if pass_]
        if clean:
            return clean, False
        suspects = [tuple(job for job in pass_ if self.kills[job.trial.key] < MAX_KILLS) for pass_ in left]
        dangerous = [job for job in self.pending.values() if self.kills[job.trial.key] >= MAX_KILLS]
        return [pass_ for pass_ in suspects if pass_] + [(job,) for job in dangerous], True

    def _unsuspected(self, pass_: Pass) -> Pass:
        """Stacks without a suspect: one that was killed in part is tried again whole, and alone."""
        return groups_where(pass_, lambda group: not any(self.kills[job.trial.key] for job in group))

    def _unfinished(self, pass_: Pass) -> Pass:
        """Stacks of which something is left, whole: what is done of them is trained along."""
        return groups_where(pass_, lambda group: any(job.trial.key in self.pending for job in group))

    def enter(self, statuses: Sequence[Status]) -> Iterator[Status]:
        """Book what ended; a busy trial stays pending, another process holds it."""
        for status in statuses:
            if status.state == "busy" or self.pending.pop(status.job.trial.key, None) is None:
                continue
            pair = _pair(status.job)
            if status.state == "failed":
                self.failed[pair] += 1
            elif status.state != "refused":
                self.learned.add(pair)
            yield status

    def of_the_dead(self, pass_: Pass) -> Iterator[Status]:
        """Book a pass whose process died: what it had finished is done, what was with it comes under suspicion."""
        trace = hang_trace(pass_)
        for job in pass_:
            self.kills[job.trial.key] += MAX_KILLS if trace else 1  # what hung would hang again: divide it at once
            if Run(job.run).trial(job.trial.id) is not None:
                yield from self.enter([Status(job, "done", 0.0)])
            elif trace and len(pass_) == 1:
                yield from self.enter([_timed_out(job, trace)])
            elif self.kills[job.trial.key] >= MAX_KILLS and len(pass_) == 1:
                yield from self.enter([_killed(job)])

    def is_hopeless(self, job: Job) -> bool:
        """Whether the job's model has failed too often, and never succeeded, on the job's dataset."""
        pair = _pair(job)
        return 0 < self.max_failures <= self.failed[pair] and pair not in self.learned

    def give_up(self) -> Iterator[Status]:
        """Skip what is left of hopeless models."""
        reason = f"the first {self.max_failures} trials of its model failed"
        hopeless = [job for job in self.pending.values() if self.is_hopeless(job)]
        for job in hopeless:
            del self.pending[job.trial.key]
            yield Status(job, "skipped", 0.0, reason)


def _pair(job: Job) -> tuple[str, str]:
    return job.trial.dataset, job.trial.model


def _killed(job: Job) -> Status:
    """Failed status of a job whose process died `MAX_KILLS` times, the last time alone."""
    error = WorkerKilledError(
        "the trial's process was killed twice, most likely for want of memory. "
        "Use fewer workers (--workers) or smaller bags; the same command tries again."
    )
    Run(job.run).write_failure(job.trial.key, failure_record(job.trial, error))
    return Status(job, "failed", 0.0, str(error))


def _timed_out(job: Job, trace: str) -> Status:
    """Failed status of a job that hung; its record says where."""
    error = TimeoutError("the trial ran past its time and was stopped. Raise --trial-timeout if it only was slow.")
    record = {**failure_record(job.trial, error), "traceback": trace}
    Run(job.run).write_failure(job.trial.key, record)
    return Status(job, "failed", 0.0, f"TimeoutError: {error}")
