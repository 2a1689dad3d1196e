"""Alarm: ends the process of a trial that hangs, and writes down where it hung.

The alarm runs in the process that computes, in a C thread that needs no cooperation from Python. So it works on a loky
worker, a dask worker and a SLURM node alike, even if native code never returns to the interpreter. If a process cannot
answer its own alarm (it is stopped or swapped out), its parent kills it.
"""

from __future__ import annotations

import faulthandler
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from milbench.store.claims import read_claim
from milbench.store.run_folder import CLAIMS

if TYPE_CHECKING:
    from milbench.trials.job import DataPass, Job

RANG = "Timeout"
"""First word of what `faulthandler` writes when the time is up."""

GRACE_SECONDS = 5.0
"""How long a process may be past its alarm before its parent kills it."""


@contextmanager
def alarm(data_pass: DataPass, trial_seconds: float) -> Iterator[None]:
    """End this process if the block takes longer than the pass's trials may; 0 = no alarm."""
    if not trial_seconds:
        yield
        return
    path = _trace_file(data_pass.first)
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as trace:
        faulthandler.dump_traceback_later(trial_seconds * len(data_pass.jobs), exit=True, file=trace)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    path.unlink(missing_ok=True)


def hang_trace(first: Job) -> str:
    """Where the pass that begins with `first` hung; "" if its process died of something else. Deletes the file."""
    path = _trace_file(first)
    try:
        text = path.read_text()
        path.unlink(missing_ok=True)
    except OSError:
        return ""
    return text if text.startswith(RANG) else ""


def has_hung(data_pass: DataPass) -> bool:
    """Whether an earlier try of the pass was ended by the alarm, and the supervisor has not recorded it yet."""
    try:
        return _trace_file(data_pass.first).read_text().startswith(RANG)
    except OSError:
        return False


class Overdue:
    """Kills child processes that are past their time and that their own alarm did not end.

    Time is this process's own clock. If the system's clock is set, or a laptop sleeps, no trial counts as late.
    """

    def __init__(self, trial_seconds: float) -> None:
        self.trial_seconds = trial_seconds
        self.seen: dict[tuple[str, float], float] = {}

    def end(self, data_pass: DataPass) -> None:
        """Kill the process that computes the pass if it is past its time."""
        for job in data_pass.jobs:
            claim = read_claim(job.run / CLAIMS, job.trial.key)
            if claim is None:
                continue
            since = self.seen.setdefault((claim.key, claim.since), time.monotonic())
            if time.monotonic() - since < self.trial_seconds * len(data_pass.jobs) + GRACE_SECONDS:
                continue
            with suppress(psutil.Error):
                process = psutil.Process(claim.pid)
                if process.ppid() == os.getpid() and process.create_time() == claim.born:
                    _trace_file(data_pass.first).write_text(
                        f"{RANG}: the process no longer answered, so it cannot say where it hung."
                    )
                    process.kill()


def _trace_file(first: Job) -> Path:
    """Beside the claim of the pass's first trial."""
    return first.run / CLAIMS / f"{first.trial.key}.hang"
