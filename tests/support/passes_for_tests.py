"""Passes of trials that nobody trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trial_for_tests import TRIAL

from milbench.datasets.source import CohortSource
from milbench.store.run import Run
from milbench.store.run_writing import write_header
from milbench.trials.job import DataPass, Job, JobGroup
from milbench.trials.plan import Trial


def trials(n: int, model: str = "m") -> list[Trial]:
    return [replace(TRIAL, fold=fold, model=model) for fold in range(n)]


def passes(tmp_path: Path, *sizes: int) -> list[DataPass]:
    """Passes of so many jobs each, their folds counted on."""
    run = Run(tmp_path / "run")
    write_header(run, {}, {}, {}, {})
    jobs = [Job(run.path, trial, CohortSource()) for trial in trials(sum(sizes))]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        DataPass(tuple(JobGroup((job,)) for job in jobs[start : start + size]))
        for start, size in zip(starts, sizes, strict=True)
    ]
