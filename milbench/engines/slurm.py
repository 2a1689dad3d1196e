"""SLURM: jobs that each run passes into the one run folder, submitted and watched from here.

A SLURM job takes passes that no other process has claimed, and runs them in loky's pool on its node. If a node dies,
only the trials that ran on it are computed again. This process reads what the jobs write. To stop them it writes a file,
since signals do not cross machines.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.engines.loky import LokyPool
from milbench.engines.pass_result import PassResult
from milbench.engines.settings import PoolSettings
from milbench.engines.slurm_settings import make_executor
from milbench.engines.supervisor import execute
from milbench.errors import MilbenchError
from milbench.machine.hardware import resolve_device
from milbench.store import claims
from milbench.store.claims import is_alive, read_claim
from milbench.store.run import Run
from milbench.store.run_folder import CLAIMS
from milbench.trials.job import DataPass, Job, Status

if TYPE_CHECKING:
    from milbench.engines.supervisor import Interrupts

POLL_SECONDS = 1.0
FOLDER = "slurm"


class StopFile:
    """Asks processes on other machines to stop: a file in the run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def requested(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    @requested.setter
    def requested(self, stop: bool) -> None:
        if stop:
            self.path.touch()


class SlurmPool:
    """SLURM jobs, submitted anew for every round of the supervisor."""

    def __init__(self, settings: PoolSettings, interrupts: Interrupts) -> None:
        self.settings, self.interrupts = settings, interrupts
        self.folder = settings.run / FOLDER
        self.folder.mkdir(exist_ok=True)
        self.executor = make_executor(self.folder, settings.slurm)

    def run(self, passes: Iterator[DataPass], *, alone: bool) -> Iterator[PassResult]:
        """Result of each trial as it appears in the folder, and of each pass whose SLURM job died."""
        free = [data_pass for data_pass in passes if _is_free(data_pass)]
        watched = _Watched(free)
        for status in watched.news():  # done by jobs of an earlier command that was killed
            yield PassResult((status.job,), [status._replace(state="already")])
        free = [data_pass for data_pass in free if any(job.trial.key in watched.left for job in data_pass.jobs)]
        if not free:  # another milbench on this folder holds them
            time.sleep(POLL_SECONDS)
            return
        stop = StopFile(self.folder / f"stop-{uuid.uuid4().hex}")
        n_jobs = min(self.settings.n_jobs, len(free))
        work = partial(work_on, n_jobs=n_jobs, passes=free, settings=self.settings, stop=stop, alone=alone)
        jobs = self.executor.map_array(work, range(n_jobs))
        try:
            yield from self._watch(jobs, watched, stop)
        except (KeyboardInterrupt, GeneratorExit):  # the latter if the caller is interrupted between two results
            _cancel(jobs)
            raise
        finally:
            stop.path.unlink(missing_ok=True)

    def _watch(self, jobs: Sequence[Any], watched: _Watched, stop: StopFile) -> Iterator[PassResult]:
        ended = 0
        while True:
            over = all(job.done() for job in jobs)  # asked before looking, so that the last look misses nothing
            for status in watched.news():
                ended += 1
                yield PassResult((status.job,), [status])
            if over:
                break
            if self.interrupts.requested and not stop.requested:
                stop.requested = True
                _cancel([job for job in jobs if job.state == "PENDING"])
            time.sleep(POLL_SECONDS)
        self._wait_for_silence(watched)
        dead = watched.dead()
        yield from dead
        for message in filter(None, (_message(job) for job in jobs)):
            yield from watched.refused(message)
        if not ended and not dead and not self.interrupts.requested:
            raise MilbenchError(
                f"the SLURM jobs ended without a single trial: {_log(jobs[0])}. Read their logs in {self.folder}."
            )

    def _wait_for_silence(self, watched: _Watched) -> None:
        """Wait until every claim from another host is known to be dead, or to belong to another living milbench."""
        deadline = time.monotonic() + claims.SILENT_SECONDS + POLL_SECONDS
        while watched.claimed_elsewhere() and time.monotonic() < deadline and not self.interrupts.requested:
            time.sleep(POLL_SECONDS)


class _Watched:
    """Trials of one round, and what has become of them on disk."""

    def __init__(self, passes: Sequence[DataPass]) -> None:
        self.passes = passes
        self.left = {job.trial.key: job for data_pass in passes for job in data_pass.jobs}
        self.failures = {key: _changed(job) for key, job in self.left.items()}

    def news(self) -> Iterator[Status]:
        """Trials that have ended since the last look."""
        for key, job in list(self.left.items()):
            status = self._ended(job)
            if status is not None:
                del self.left[key]
                yield status

    def _ended(self, job: Job) -> Status | None:
        run = Run(job.run)
        if (run.path / "trials" / job.trial.id).exists() and (stored := run.trial(job.trial.id)) is not None:
            return Status(job, "done", float(stored.info["wall_seconds"]))
        if _changed(job) not in (None, self.failures[job.trial.key]):
            record = run.failure(job.trial.key)
            return Status(job, "failed", 0.0, f"{record['type']}: {record['message']}")
        return None

    def claimed_elsewhere(self) -> bool:
        """Whether a trial is claimed by a living process, as far as its last heartbeat tells."""
        return any(not _is_unclaimed(job) and not _is_abandoned(job) for job in self.left.values())

    def dead(self) -> list[PassResult]:
        """Trials whose process died, one result per pass. Their claims are deleted, so that they can be tried again."""
        dead = {job.trial.key for job in self.left.values() if _is_abandoned(job)}
        for key in dead:
            job = self.left.pop(key)
            (job.run / CLAIMS / f"{key}.json").unlink(missing_ok=True)
        by_pass = [tuple(job for job in data_pass.jobs if job.trial.key in dead) for data_pass in self.passes]
        return [PassResult(jobs, worker_died=True) for jobs in by_pass if jobs]

    def refused(self, message: str) -> Iterator[PassResult]:
        """The bad input that stopped the SLURM jobs, reported for one of the trials left."""
        for job in list(self.left.values())[:1]:
            yield PassResult((job,), [Status(job, "refused", 0.0, message)])


def work_on(
    index: int, n_jobs: int, passes: list[DataPass], settings: PoolSettings, stop: StopFile, *, alone: bool
) -> str:
    """Message of the bad input that stopped this SLURM job; "" if none did.

    The job takes passes that nobody has claimed, starting at its own place in the list. If `alone`, it takes only its
    own share of them, one at a time.
    """
    start = index * len(passes) // n_jobs
    here = on_this_node(settings)
    if alone:
        here = replace(here, workers=1)  # nothing runs beside a pass whose worker died before
    mine = passes[index::n_jobs] if alone else passes[start:] + passes[:start]
    # at a time limit submitit raises in this process: a trial that ran here would be recorded as failed
    pool = LokyPool(here, may_compute_here=False)
    refused = ""
    for status in execute(mine, pool, stop, max_failures=here.max_failures, takes=_is_unclaimed):
        if status.state == "refused":
            refused = status.message
    return refused


def on_this_node(settings: PoolSettings) -> PoolSettings:
    """Settings of the worker processes that a SLURM job starts where it runs."""
    gpus = settings.gpus or ("all" if resolve_device(settings.device).startswith("cuda") else "")
    return replace(settings, kind="loky", gpus=gpus).settled()


def run_in_jobs(settings: PoolSettings, work: Callable[[int], str], n_jobs: int) -> None:
    """Call `work` with 0, 1, ... in a SLURM job each, and wait until all have ended.

    Parameters
    ----------
    work : returns the message of the bad input that stopped it; "" if none did.

    Raises
    ------
    MilbenchError : a job died, or bad input stopped one.
    """
    folder = settings.run / FOLDER
    folder.mkdir(exist_ok=True)
    jobs = make_executor(folder, settings.slurm).map_array(work, range(n_jobs))
    try:
        while not all(job.done() for job in jobs):
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        _cancel(jobs)
        raise
    for message in filter(None, (_message(job) for job in jobs)):
        raise MilbenchError(message)
    dead = [job for job in jobs if job.exception() is not None]
    if dead:
        raise MilbenchError(
            f"{len(dead)} of {n_jobs} SLURM jobs died, the first with: {_log(dead[0])}. What the jobs stored is kept. Read "
            f"their logs in {folder}, then give the same command again."
        )


def _is_unclaimed(job: Job) -> bool:
    """Whether nobody has claimed the job. A dead process's claim counts: the command that watches tries that trial alone."""
    return read_claim(job.run / CLAIMS, job.trial.key) is None


def _is_free(data_pass: DataPass) -> bool:
    """Whether nobody works on the pass. Claims that dead processes of earlier commands left are deleted."""
    for job in data_pass.jobs:
        if _is_abandoned(job):
            (job.run / CLAIMS / f"{job.trial.key}.json").unlink(missing_ok=True)
    return all(_is_unclaimed(job) for job in data_pass.jobs)


def _is_abandoned(job: Job) -> bool:
    claim = read_claim(job.run / CLAIMS, job.trial.key)
    return claim is not None and not is_alive(job.run / CLAIMS, claim)


def _changed(job: Job) -> int | None:
    """When the trial's failure was last recorded, in nanoseconds; None for never."""
    try:
        return (job.run / "failures" / f"{job.trial.key}.json").stat().st_mtime_ns
    except OSError:
        return None


def _cancel(jobs: Sequence[Any]) -> None:
    for job in jobs:
        job.cancel(check=False)


def _message(job: Any) -> str:
    """The bad input that stopped the job; "" for a job that died, since its claimed trials show that."""
    return "" if job.exception() is not None else str(job.result())


def _log(job: Any) -> str:
    """Last line that the job wrote to its standard error."""
    lines = (job.stderr() or "").strip().splitlines()
    return lines[-1] if lines else "its log is empty"
