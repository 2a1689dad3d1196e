"""An ensemble answers as the report's ensemble does, for tasks of every kind."""

import re

import numpy as np
import pandas as pd
import pytest
from kinds_cohort_for_tests import make_cohort_of_kinds, train_every_kind

import milbench
from milbench.errors import StoreError, UsageError
from milbench.runs.notebook import NotebookRun
from milbench.stats.ensemble import ensemble
from milbench.stats.grid import grids
from milbench.stats.scores import kinds_of

NAMES = {
    "A": ("probability",),
    "subtype": ("probability of x", "probability of y", "probability of z"),
    "grade": ("expected grade",),
    "hrd": ("value",),
    "os": ("standardised risk",),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    folder = tmp_path_factory.mktemp("ensemble")
    return milbench.open_run(train_every_kind(make_cohort_of_kinds(folder / "toy"), folder / "runs" / "toy"))


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize("model", ["mean_pooling", "m4"])
def test_the_mean_over_folds_is_that_of_the_report(run: NotebookRun, model: str, task: str) -> None:
    (grid,) = (found for kind in kinds_of([run]) for found in grids([run], kind) if task in found.tasks)
    reported = ensemble(grid.task(task))[1][grid.models.index(model)]  # [p] or [p, C], of patients by name
    if task == "A":
        reported = 1 / (1 + np.exp(-reported))
    together, cohort, rows = run.ensemble(model, task=task), run.cohort(), run.answers()
    tested = rows[(rows["role"] == "test") & (rows["task"] == task) & rows["target"].notna()]
    slides = tested[["slide_id", "patient_id"]].drop_duplicates().sort_values("patient_id")
    answers = pd.DataFrame([together.answers(cohort.load(slide).features) for slide in slides["slide_id"]])
    once = ~slides["patient_id"].duplicated(keep=False).to_numpy()  # others are averaged over slides too
    patients = np.unique(slides["patient_id"])
    alone = np.isin(patients, slides["patient_id"][once])
    assert once.sum() >= 5
    np.testing.assert_allclose(answers[once].to_numpy().squeeze(), reported[alone], atol=1e-5)


@pytest.mark.parametrize(("task", "names"), NAMES.items())
def test_answers_have_names(run: NotebookRun, task: str, names: tuple[str, ...]) -> None:
    together = run.ensemble("mean_pooling", task=task)
    assert together.names == names
    assert len(together.answers(run.cohort().load(run.cohort().slides["slide_id"][0]).features)) == len(names)
    assert repr(together) == f"Ensemble(2 trainings of mean_pooling on {task})"


def test_a_task_must_be_said_if_there_are_several(run: NotebookRun) -> None:
    for model in ("mean_pooling", "m4"):
        with pytest.raises(
            UsageError, match=rf"{model} on toy has several tasks: A, .*Say which, for example task='A'"
        ):
            run.ensemble(model)
    with pytest.raises(
        UsageError, match=re.escape("unknown task of m4 on toy 'B'. Known: A, grade, hrd, os, subtype.")
    ):
        run.ensemble("m4", task="B")


def test_an_ensemble_that_lacks_a_training_is_refused(run: NotebookRun) -> None:
    slot = next(slot for slot in run.slots() if slot.model == "mean_pooling" and slot.group == "hrd")
    folder = run.trial_folder(slot.trial_id)
    elsewhere = folder.rename(folder.parent / "elsewhere")
    try:
        with pytest.raises(StoreError, match=r"hrd/fold0-seed42.* is not done"):
            run.ensemble("mean_pooling", task="hrd")
    finally:
        elsewhere.rename(folder)


def test_histories_have_one_row_per_trial_and_epoch(run: NotebookRun) -> None:
    table = run.histories()
    assert list(table.columns[:5]) == ["dataset", "model", "task", "fold", "seed"]
    assert len(table) == len(run.trials()) == 12  # of one epoch
    assert set(table["task"]) == {*NAMES, "all"}
    for trial in run.trials():
        tasks = trial.info["tasks"]
        mine = table[(table["model"] == trial.info["model"]) & (table["fold"] == trial.info["fold"])]
        mine = mine[mine["task"] == (tasks[0] if len(tasks) == 1 else "all")]
        stored = trial.history().rename(columns={"val_auroc": "val_score"})
        pd.testing.assert_frame_equal(mine[list(stored)].reset_index(drop=True), stored)


def test_statistics_are_those_of_the_report_by_kind(run: NotebookRun) -> None:
    from milbench.report.contents import gather

    found = milbench.statistics(run, draws=100)
    reported = gather([run], reference="amil", draws=100, complete_cases=False)
    assert list(found) == ["binary", "multiclass", "ordinal", "regression", "survival"]
    for one in reported:
        for name in ("scores", "tasks", "cells", "against", "cohorts", "overall", "pairs"):
            pd.testing.assert_frame_equal(getattr(found[one.kind], name), getattr(one.analysis, name))
