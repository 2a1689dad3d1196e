"""Engine: runs jobs in processes and survives what they do. The only module that knows processes.

joblib's loky workers compute and write; this process only feeds them and watches. When a worker is killed
(out of memory, a crash in native code) loky gives up the whole pool: the jobs that were in flight are then
tried again alone, one at a time, and recorded as failed if they kill their worker twice.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from milbench.errors import MilbenchError
from milbench.store import Run
from milbench.worker import Job, Status, failure_record, run_job

MAX_KILLS = 2
"""Kills of its worker after which a job counts as failed."""

ALONE = 2
"""Pool size for a suspect that runs alone: joblib would run a pool of one in this process."""

BUSY_WAIT_SECONDS = 0.5


class WorkerKilledError(MilbenchError):
    """A trial's process died without a word."""


class Interrupts:
    """First Ctrl-C (or SIGTERM): finish what is in flight. Second: stop at once."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self.announce = announce
        self.requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
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


def execute(jobs: Sequence[Job], workers: int, interrupts: Interrupts) -> Iterator[Status]:
    """Status of every job as it ends; stops feeding when interrupted or when a job is refused.

    Raises
    ------
    KeyboardInterrupt : stopped at once; finished trials are on disk.
    """
    pending = {job.trial.key: job for job in jobs}
    kills: Counter[str] = Counter()
    while pending and not interrupts.requested:
        unsuspected = [job for key, job in pending.items() if not kills[key]]
        batch = unsuspected or list(pending.values())[:1]
        in_flight: set[str] = set()
        try:
            for status in _run(_fed(batch, in_flight, interrupts), workers if unsuspected else ALONE):
                in_flight.discard(status.job.trial.key)
                if status.state == "busy":
                    continue
                del pending[status.job.trial.key]
                yield status
                if status.state == "refused":
                    interrupts.requested = True
        except BrokenProcessPool:
            kills.update(in_flight)
            yield from _buried([pending.pop(key) for key in in_flight if kills[key] >= MAX_KILLS])
        else:
            if pending and not interrupts.requested:  # another milbench on this folder holds them
                time.sleep(BUSY_WAIT_SECONDS)


def _fed(batch: Sequence[Job], in_flight: set[str], interrupts: Interrupts) -> Iterator[Job]:
    """Jobs one by one, noted as in flight, until an interrupt asks to stop."""
    for job in batch:
        if interrupts.requested:
            return
        in_flight.add(job.trial.key)
        yield job


def _run(jobs: Iterator[Job], workers: int) -> Iterator[Status]:
    """Status of each job; in this process where one worker is asked for, else in loky's."""
    if workers == 1:
        for job in jobs:
            yield run_job(job, ignore_interrupt=False)
        return
    # `pre_dispatch` as small as can be: what is dispatched is finished before a Ctrl-C is answered
    pool = Parallel(
        n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs"
    )
    try:
        yield from pool(delayed(run_job)(job) for job in jobs)
    except KeyboardInterrupt:
        get_reusable_executor().shutdown(wait=False, kill_workers=True)
        raise


def _buried(jobs: list[Job]) -> Iterator[Status]:
    """Failed status of jobs whose process died `MAX_KILLS` times, the last time alone."""
    for job in jobs:
        error = WorkerKilledError(
            "the trial's process was killed twice, most likely for want of memory. "
            "Use fewer workers (--workers) or smaller bags; the same command tries again."
        )
        Run(job.run).write_failure(job.trial.key, failure_record(job.trial, error))
        yield Status(job, "failed", 0.0, str(error))
