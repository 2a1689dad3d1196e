"""Task: what a worker process is sent. Heavy imports stay inside: the worker first takes its GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milbench.engines.alarm import alarm
from milbench.process.must_return import no_exit

if TYPE_CHECKING:
    from milbench.engines.settings import PoolSettings
    from milbench.trials.job import DataPass, Status


def compute_here(data_pass: DataPass, settings: PoolSettings) -> list[Status]:
    """Status of every job of the pass, computed in this process and on this machine's device."""
    from milbench.engines.worker import run_pass

    with no_exit(), alarm(data_pass, settings.trial_seconds):
        return run_pass(data_pass.placed_on(settings.device, settings.workers, settings.gpu_workers))
