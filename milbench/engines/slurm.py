"""SLURM: jobs that each work like a milbench of their own on the one run folder, submitted and watched from here.

A job takes what nobody has taken yet, with loky's pool on its node, so a node that dies costs what it had in flight.
This process reads what the jobs write; a file asks them to stop, since signals do not cross machines.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.engines.loky import LokyPool
from milbench.engines.settings import PoolSettings
from milbench.engines.slurm_settings import make_executor
from milbench.engines.supervisor import execute
from milbench.errors import MilbenchError
from milbench.machine.hardware import resolve_device
from milbench.store import claims
from milbench.store.claims import is_alive, read_claim
from milbench.store.run import CLAIMS, Run
from milbench.trials.job import Job, Pass, Status

if TYPE_CHECKING:
    from milbench.engines.supervisor import Ended, Interrupts

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
    """SLURM jobs, submitted anew for every round of the engine."""

    def __init__(self, settings: PoolSettings, interrupts: Interrupts) -> None:
        self.settings, self.interrupts = settings, interrupts
        self.folder = settings.run / FOLDER
        self.folder.mkdir(exist_ok=True)
        self.executor = make_executor(self.folder, settings.slurm)

    def run(self, passes: Iterator[Pass], *, alone: bool) -> Iterator[Ended]:
        """Each job's trial as it appears in the folder; None for those whose SLURM job died with them."""
        free = [pass_ for pass_ in passes if _is_free(pass_)]
        watched = _Watched(free)
        for status in watched.news():  # done by jobs of an earlier command that was killed
            yield (status.job,), [status._replace(state="already")]
        free = [pass_ for pass_ in free if any(job.trial.key in watched.left for job in pass_)]
        if not free:  # another milbench on this folder holds them
            time.sleep(POLL_SECONDS)
            return
        stop = StopFile(self.folder / f"stop-{uuid.uuid4().hex}")
        n_jobs = min(self.settings.n_jobs, len(free))
        work = partial(work_on, n_jobs=n_jobs, passes=free, settings=self.settings, stop=stop, alone=alone)
        jobs = self.executor.map_array(work, range(n_jobs))
        try:
            yield from self._watch(jobs, watched, stop)
        except (KeyboardInterrupt, GeneratorExit):  # the latter where who asks for results is interrupted
            _cancel(jobs)
            raise
        finally:
            stop.path.unlink(missing_ok=True)

    def _watch(self, jobs: Sequence[Any], watched: _Watched, stop: StopFile) -> Iterator[Ended]:
        ended = 0
        while True:
            over = all(job.done() for job in jobs)  # asked before looking, so that the last look misses nothing
            for status in watched.news():
                ended += 1
                yield (status.job,), [status]
            if over:
                break
            if self.interrupts.requested and not stop.requested:
                stop.requested = True
                _cancel([job for job in jobs if job.state == "PENDING"])
            time.sleep(POLL_SECONDS)
        self._wait_for_silence(watched)
        dead = watched.dead()
        yield from ((pass_, None) for pass_ in dead)
        for message in filter(None, (_message(job) for job in jobs)):
            yield from watched.refused(message)
        if not ended and not dead and not self.interrupts.requested:
            raise MilbenchError(f"the SLURM jobs ended without a single trial: {_log(jobs[0])} (logs: {self.folder})")

    def _wait_for_silence(self, watched: _Watched) -> None:
        """Until it is certain that whoever claims a trial on another host is dead, or is another milbench."""
        deadline = time.monotonic() + claims.SILENT_SECONDS + POLL_SECONDS
        while watched.claimed_elsewhere() and time.monotonic() < deadline and not self.interrupts.requested:
            time.sleep(POLL_SECONDS)


class _Watched:
    """Trials of one round, and what has become of them on disk."""

    def __init__(self, passes: Sequence[Pass]) -> None:
        self.passes = passes
        self.left = {job.trial.key: job for pass_ in passes for job in pass_}
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

    def dead(self) -> list[Pass]:
        """Trials whose process is gone, by pass; their claims are cleared away, so that they can be tried again."""
        dead = {job.trial.key for job in self.left.values() if _is_abandoned(job)}
        for key in dead:
            job = self.left.pop(key)
            (job.run / CLAIMS / f"{key}.json").unlink(missing_ok=True)
        of_passes = [tuple(job for job in pass_ if job.trial.key in dead) for pass_ in self.passes]
        return [pass_ for pass_ in of_passes if pass_]

    def refused(self, message: str) -> Iterator[Ended]:
        """One of the trials left stands for what stopped the jobs."""
        for job in list(self.left.values())[:1]:
            yield (job,), [Status(job, "refused", 0.0, message)]


def work_on(index: int, n_jobs: int, passes: list[Pass], settings: PoolSettings, stop: StopFile, *, alone: bool) -> str:
    """What a SLURM job does: all that nobody else has taken, from its own place in the list on; `alone` its own share only.

    Returns the message of the bad input that stopped it; "" for none.
    """
    start = index * len(passes) // n_jobs
    gpus = settings.gpus or ("all" if resolve_device(settings.device).startswith("cuda") else "")
    here = replace(settings, kind="loky", gpus=gpus).settled()
    if alone:
        here = replace(here, workers=1)  # nothing beside what is under suspicion
    mine = passes[index::n_jobs] if alone else passes[start:] + passes[:start]
    # submitit answers a time limit by raising in this process, where a trial would be blamed for it
    pool = LokyPool(here, may_compute_here=False)
    refused = ""
    for status in execute(mine, pool, stop, max_failures=here.max_failures, takes=_is_unclaimed):
        if status.state == "refused":
            refused = status.message
    return refused


def _is_unclaimed(job: Job) -> bool:
    """Also a claim that its process has not survived counts: whoever watches the jobs tries that trial alone."""
    return read_claim(job.run / CLAIMS, job.trial.key) is None


def _is_free(pass_: Pass) -> bool:
    """Whether nobody works on the pass; what dead processes left of earlier commands is cleared away."""
    for job in pass_:
        if _is_abandoned(job):
            (job.run / CLAIMS / f"{job.trial.key}.json").unlink(missing_ok=True)
    return all(_is_unclaimed(job) for job in pass_)


def _is_abandoned(job: Job) -> bool:
    claim = read_claim(job.run / CLAIMS, job.trial.key)
    return claim is not None and not is_alive(job.run / CLAIMS, claim)


def _changed(job: Job) -> int | None:
    """When the trial's failure was last recorded; None for never."""
    try:
        return (job.run / "failures" / f"{job.trial.key}.json").stat().st_mtime_ns
    except OSError:
        return None


def _cancel(jobs: Sequence[Any]) -> None:
    for job in jobs:
        job.cancel(check=False)


def _message(job: Any) -> str:
    """What stopped the job, if it was bad input; its death is no message, the watched trials tell of it."""
    return "" if job.exception() is not None else str(job.result())


def _log(job: Any) -> str:
    """Last line that the job wrote to its standard error."""
    lines = (job.stderr() or "").strip().splitlines()
    return lines[-1] if lines else "its log is empty"
