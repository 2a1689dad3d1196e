"""Jobs, groups and passes: what is left out of a pass, and what a machine fills in."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from passes_for_tests import trials

from milbench.datasets.source import CohortSource
from milbench.trials.job import DataPass, Job, JobGroup


@pytest.fixture
def pair_and_one() -> DataPass:
    """A pass of a group with the folds 0 and 1, and one with the fold 2."""
    first, second, third = (Job(Path("run"), trial, CohortSource()) for trial in trials(3))
    return DataPass((JobGroup((first, second)), JobGroup((third,))))


def folds(data_pass: DataPass) -> list[list[int]]:
    return [[job.trial.fold for job in group] for group in data_pass.groups]


def test_the_jobs_of_a_pass_are_those_of_its_groups_in_order(pair_and_one: DataPass) -> None:
    assert [job.trial.fold for job in pair_and_one.jobs] == [0, 1, 2]
    assert pair_and_one.first is pair_and_one.jobs[0]


def test_groups_are_kept_or_left_out_whole(pair_and_one: DataPass) -> None:
    assert folds(pair_and_one.only_groups(lambda group: any(job.trial.fold == 1 for job in group))) == [[0, 1]]
    assert pair_and_one.only_groups(lambda _: False).groups == ()


def test_a_group_whose_jobs_are_all_left_out_is_left_out(pair_and_one: DataPass) -> None:
    assert folds(pair_and_one.only_jobs(lambda job: job.trial.fold == 1)) == [[1]]
    assert folds(pair_and_one.only_jobs(lambda job: job.trial.fold != 1)) == [[0], [2]]


def test_every_job_of_a_pass_is_told_of_its_machine(pair_and_one: DataPass) -> None:
    here = pair_and_one.placed_on("cpu", workers=3, gpu_workers=2)
    assert folds(here) == folds(pair_and_one)
    assert {(job.device, job.workers, job.gpu_workers) for job in here.jobs} == {("cpu", 3, 2)}


def test_a_pass_travels_to_another_process(pair_and_one: DataPass) -> None:
    assert pickle.loads(pickle.dumps(pair_and_one)) == pair_and_one
