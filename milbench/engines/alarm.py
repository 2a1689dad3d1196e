"""Alarm: a trial that hangs ends its process, and leaves where it hung.

The alarm rings in the process that computes, in a C thread that needs no cooperation from Python: it works the same
on a loky worker, a dask worker and a SLURM node, even where native code never gives the interpreter back. A process
that is past its own alarm (stopped, or swapped out) is killed from outside.
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
from milbench.store.run import CLAIMS

if TYPE_CHECKING:
    from milbench.trials.job import Pass

RANG = "Timeout"
"""First word of what `faulthandler` writes when the time is over."""

GRACE_SECONDS = 5.0
"""How long a process may be past its alarm."""


@contextmanager
def alarm(pass_: Pass, trial_seconds: float) -> Iterator[None]:
    """End this process if the block takes longer than the pass's trials may; 0 = no alarm."""
    if not trial_seconds:
        yield
        return
    path = _trace_file(pass_)
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as trace:
        faulthandler.dump_traceback_later(trial_seconds * len(pass_), exit=True, file=trace)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    path.unlink(missing_ok=True)


def hang_trace(pass_: Pass) -> str:
    """Where the pass hung when its time was over, taken off the disk; "" where its process died of something else."""
    path = _trace_file(pass_)
    try:
        text = path.read_text()
        path.unlink(missing_ok=True)
    except OSError:
        return ""
    return text if text.startswith(RANG) else ""


def has_hung(pass_: Pass) -> bool:
    """Whether an earlier try of the pass ended by the alarm, and nobody has booked it yet."""
    try:
        return _trace_file(pass_).read_text().startswith(RANG)
    except OSError:
        return False


class Overdue:
    """Ends child processes that should have been ended by their own alarm.

    Time is this process's own: a clock that is set, or a laptop that slept, makes no trial late.
    """

    def __init__(self, trial_seconds: float) -> None:
        self.trial_seconds = trial_seconds
        self.seen: dict[tuple[str, float], float] = {}

    def end(self, pass_: Pass) -> None:
        """End the process at work on the pass if it is past its time."""
        for job in pass_:
            claim = read_claim(job.run / CLAIMS, job.trial.key)
            if claim is None:
                continue
            since = self.seen.setdefault((claim.key, claim.since), time.monotonic())
            if time.monotonic() - since < self.trial_seconds * len(pass_) + GRACE_SECONDS:
                continue
            with suppress(psutil.Error):
                process = psutil.Process(claim.pid)
                if process.ppid() == os.getpid() and process.create_time() == claim.born:
                    _trace_file(pass_).write_text(
                        f"{RANG}: the process no longer answered, so it cannot say where it hung."
                    )
                    process.kill()


def _trace_file(pass_: Pass) -> Path:
    """Beside the claim of the pass's first trial."""
    return pass_[0].run / CLAIMS / f"{pass_[0].trial.key}.hang"
