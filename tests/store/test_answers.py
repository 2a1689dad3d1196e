"""Answers: what is stored of tasks of every kind, how it is read, and what is damage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from kinds_for_tests import ENDPOINTS, make_run_of_kinds

from milbench.endpoints.fitted import FittedEndpoint
from milbench.store.joined import ANSWER_COLUMNS, PREDICTION_COLUMNS
from milbench.store.payload import refuse_other_answers
from milbench.store.run import Run
from milbench.store.trial import PREDICTIONS, StoredTrial


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run_of_kinds(tmp_path_factory.mktemp("kinds") / "run", folds=(0,))


def test_a_run_gives_answers_of_all_tasks_and_predictions_of_binary_ones(run: Run) -> None:
    answers, predictions = run.answers(), run.predictions()
    assert tuple(answers) == ANSWER_COLUMNS
    assert set(answers["task"]) == set(ENDPOINTS)
    assert tuple(predictions) == PREDICTION_COLUMNS
    assert set(predictions["task"]) == {name for name, endpoint in ENDPOINTS.items() if endpoint.kind == "binary"}
    same = answers[answers["task"] == "TP53"].reset_index(drop=True)
    mine = predictions[predictions["task"] == "TP53"].reset_index(drop=True)
    pd.testing.assert_series_equal(same["prediction"], mine["probability"], check_names=False)


def changed(rows: pd.DataFrame, task: str, **values: object) -> pd.DataFrame:
    """The rows with values of the first slide of a task changed."""
    first = rows["slide_id"].iloc[0]
    chosen = (rows["task"] == task) & (rows["slide_id"] == first) & (rows["role"] == rows["role"].iloc[0])
    return rows.assign(**{name: rows[name].mask(chosen, value) for name, value in values.items()})


DAMAGE = {
    "other columns": (lambda rows: rows.drop(columns="event"), "has columns"),
    "a row is missing": (lambda rows: rows.iloc[1:], "rows; expected"),
    "rows in another order": (lambda rows: rows.iloc[::-1], "other values of task"),
    "a class that does not exist": (lambda rows: changed(rows, "subtype", target=3.0), "none of its 3 classes"),
    "half a grade": (lambda rows: changed(rows, "grade", target=1.5), "none of its 4 classes"),
    "a time of 0": (lambda rows: changed(rows, "OS", target=0.0), "not above 0"),
    "an event of a binary task": (lambda rows: changed(rows, "TP53", event=1.0), "no survival task"),
    "an event that is no event": (lambda rows: changed(rows, "OS", event=0.5), "an event that is not 0 or 1"),
    "a probability above 1": (lambda rows: changed(rows, "subtype", prediction=1.5), "below 0 or above 1"),
    "another role": (lambda rows: rows.assign(role="train"), "the role 'train'"),
    "an infinite value": (lambda rows: changed(rows, "HRD", target=float("inf")), "not finite"),
    "a slide twice": (lambda rows: pd.concat([rows, rows]), "a slide twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_what_no_trial_writes_is_damage(run: Run, tmp_path: Path, name: str) -> None:
    trial = next(trial for trial in run.trials() if trial.info["model"] == "m4")
    change, message = DAMAGE[name]
    path = tmp_path / PREDICTIONS
    rows = trial.answers()
    refuse(trial, rows, path)
    with pytest.raises(ValueError, match=message):
        refuse(trial, change(rows), path)


def refuse(trial: StoredTrial, rows: pd.DataFrame, path: Path) -> None:
    endpoints: tuple[FittedEndpoint, ...] = trial.endpoints
    rows.to_parquet(path, index=False)
    refuse_other_answers(path, trial.info["tasks"], endpoints, {})
