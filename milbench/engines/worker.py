"""Worker: what one process does with one pass. It claims the trials, computes what is left, and says how each ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from milbench.engines.computation import compute, failed, set_up_process
from milbench.engines.model_memory import learner_bytes, neighbours_asked_for
from milbench.errors import DataError, StoreError
from milbench.serving.cohort_features import features_of, forget_features
from milbench.store.run import Run
from milbench.store.run_writing import claim
from milbench.trials.job import DataPass, JobGroup, Status


def run_pass(data_pass: DataPass) -> list[Status]:
    """Status of every job of a pass, in its order; results and failures are on disk when this returns."""
    run = Run(data_pass.first.run)
    statuses = {job.trial.key: Status(job, "busy", 0.0) for job in data_pass.jobs}  # until the claim succeeds
    with ExitStack() as claims:
        claimed = [group for group in data_pass.groups if _claim(run, group, claims)]
        statuses |= {job.trial.key: Status(job, "already", 0.0) for group in claimed for job in group}
        unfinished = [left for group in claimed if (left := _unfinished(run, group))]
        statuses |= {status.job.trial.key: status for status in _compute_or_refuse(run, unfinished)}
    return [statuses[job.trial.key] for job in data_pass.jobs]


def _claim(run: Run, group: JobGroup, claims: ExitStack) -> bool:
    """Whether this process now holds all trials of the group, until `claims` ends; it never holds only some."""
    with ExitStack() as trying:
        if not all(trying.enter_context(claim(run, job.trial.key)) for job in group):
            return False
        claims.enter_context(trying.pop_all())
        return True


def _unfinished(run: Run, group: JobGroup) -> JobGroup | None:
    """The group without its finished trials, which are trained along as `others`; None if all are finished."""
    done = {job.trial.key for job in group if run.trial(job.trial.id) is not None}
    finished = tuple(job.trial for job in group if job.trial.key in done)
    left = [job for job in group if job.trial.key not in done]
    return JobGroup(tuple(replace(job, others=(*job.others, *finished)) for job in left)) if left else None


def _compute_or_refuse(run: Run, groups: Sequence[JobGroup]) -> Iterator[Status]:
    """Status of all jobs of the groups. If data are bad or the disk is full, the jobs that are left are refused."""
    left = {job.trial.key: job for group in groups for job in group}
    try:
        for batch in _batches_in_memory(groups):
            for status in compute(run, batch):
                del left[status.job.trial.key]
                yield status
    except (DataError, StoreError) as error:
        forget_features()  # a user may fix the files before the next pass; a model may have written into what is held
        yield from (Status(job, "refused", 0.0, str(error)) for job in left.values())
    except Exception as error:  # noqa: BLE001 - for instance memory that runs out between the work of two models
        yield from (failed(run, job, error) for job in left.values())


def _batches_in_memory(groups: Sequence[JobGroup]) -> Iterator[list[JobGroup]]:
    """Groups whose learners fit into memory at once: weights, gradients, moments and best weights.

    Each batch reads every bag once more.
    """
    if not groups:
        return
    job = groups[0].first
    set_up_process(job)
    cohort_features = features_of(job)
    cohort_features.features.ask_for_layouts(neighbours_asked_for(groups, cohort_features.cohort.in_features))
    room = left = cohort_features.learner_bytes
    batch: list[JobGroup] = []
    for group in groups:
        needed = learner_bytes(group, cohort_features.cohort.in_features)
        if batch and needed > left:
            yield batch
            batch, left = [], room
        batch.append(group)
        left -= needed
    yield batch
