"""Every metric of every trial against scikit-learn on the stored rows, for slides and for patients."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs_for_tests import TASKS, make_run
from sklearn import metrics as sk

from milbench.errors import StoreError
from milbench.metrics import expected_calibration_error, youden_threshold
from milbench.stats.grid import grids
from milbench.stats.kind_metrics import COLUMNS
from milbench.stats.levels import PLACE, metric_table
from milbench.store.run import Run
from milbench.store.run_writing import write_trial


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """AMIL and M4 where every patient has two slides, and the scores of validation differ from the test's."""
    made = make_run(tmp_path_factory.mktemp("runs") / "toy", models=("amil", "m4"), folds=(0, 1))
    rewrite(made, two_slides_a_patient)
    return made


def rewrite(run: Run, change: object) -> None:
    """Pass every trial's predictions through `change` and store it again."""
    for trial in run.trials():
        write_trial(run, trial.id, trial.info, change(trial.predictions(), trial.info), trial.history(), None)


def two_slides_a_patient(table: pd.DataFrame, about: dict) -> pd.DataFrame:
    rng = np.random.default_rng(about["fold"])
    number = table["slide_id"].str[1:].astype(int)
    table["patient_id"] = np.where(number % 3 == 0, "p0", "p") + (number // 2).astype(str)
    is_val = table["role"] == "val"
    table.loc[is_val, "slide_id"] = "v" + table.loc[is_val, "slide_id"]
    table.loc[is_val, "patient_id"] = "v" + table.loc[is_val, "patient_id"]
    table.loc[is_val, "probability"] = rng.random(int(is_val.sum()))
    return table


def expected(test: pd.DataFrame, val: pd.DataFrame) -> dict[str, float]:
    y, p = test["target"].to_numpy(), test["probability"].to_numpy()
    threshold = youden_threshold(val["target"].to_numpy(), val["probability"].to_numpy())
    called = p >= threshold
    return {
        "score": sk.roc_auc_score(y, p),
        "average_precision": sk.average_precision_score(y, p),
        "balanced_accuracy": sk.balanced_accuracy_score(y, called),
        "f1": sk.f1_score(y, called),
        "sensitivity": sk.recall_score(y, called),
        "specificity": sk.recall_score(y, called, pos_label=0),
        "threshold": threshold,
        "brier": sk.brier_score_loss(y, p),
        "ece": expected_calibration_error(y, p),
    }


def test_every_metric_is_scikit_learns_with_a_threshold_of_validation_rows(run: Run) -> None:
    [grid] = grids([run])
    table = metric_table(grid).set_index(["model", "task", "fold", "level"])
    assert len(table) == 2 * len(TASKS) * 2 * 2
    for trial in run.trials():
        for task, rows in trial.predictions().groupby("task"):
            patients = rows.groupby(["role", "patient_id"], as_index=False)[["target", "probability"]]
            by_patient = patients.mean().assign(target=patients.max()["target"])
            for level, part in (("slide", rows), ("patient", by_patient)):
                found = table.loc[trial.info["model"], task, trial.info["fold"], level]
                for name, value in expected(part[part["role"] == "test"], part[part["role"] == "val"]).items():
                    assert found[name] == pytest.approx(value, abs=1e-12), (level, name)


def test_rows_follow_registration_and_slides_come_before_patients(run: Run) -> None:
    [grid] = grids([run])
    table = metric_table(grid)
    assert list(table.columns) == [*PLACE, *COLUMNS["binary"]]
    assert tuple(table["level"][:2]) == ("slide", "patient")
    assert tuple(dict.fromkeys(table["task"])) == TASKS
    assert set(table.loc[table["is_control"], "task"]) == {"control"}


def test_unknown_labels_are_left_out_and_a_task_without_any_has_rows_of_nan(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("m4",), folds=(0,))

    def forget(table: pd.DataFrame, about: dict) -> pd.DataFrame:
        table.loc[table["task"] == "A_B", "target"] = np.nan
        table.loc[(table["task"] == "TP53") & (table["slide_id"] == "s0"), "target"] = np.nan
        return table

    rewrite(run, forget)
    [grid] = grids([run])
    table = metric_table(grid).query("level == 'slide'").set_index("task")
    assert tuple(table.index) == TASKS
    assert table.loc["A_B", ["score", "brier"]].isna().all()
    assert not table.loc["TP53"].isna().any()
    assert len(grid.task("TP53").targets) == 59
    assert len(grid.task("A_B").targets) == 0


def test_a_model_that_diverged_has_no_metric(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("m4",), folds=(0,))

    def diverge(table: pd.DataFrame, about: dict) -> pd.DataFrame:
        table.loc[(table["task"] == "TP53") & (table["slide_id"] == "s0"), "probability"] = np.nan
        return table

    rewrite(run, diverge)
    table = metric_table(grids([run])[0]).set_index("task")
    assert table.loc["TP53", ["score", "brier", "ece"]].isna().all(axis=None)
    assert table.loc["A_B", "score"].notna().all()


def test_trials_that_disagree_on_a_label_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("amil", "m4"), folds=(0,))

    def relabel(table: pd.DataFrame, about: dict) -> pd.DataFrame:
        if about["model"] == "m4":
            table.loc[table["slide_id"] == "s0", "target"] = 1 - table.loc[table["slide_id"] == "s0", "target"]
        return table

    rewrite(run, relabel)
    with pytest.raises(StoreError, match="disagree on labels of task 'TP53'"):
        grids([run])[0].task("TP53")


def test_scores_have_a_place_for_every_model_fold_seed_and_slide(run: Run) -> None:
    [grid] = grids([run])
    task = grid.task("PIK3CA")
    assert task.scores.shape == (2, 2, 1, 60)
    assert not task.test_side_differs
    assert task.n_labelled == grid.n_patients
    for trial in run.trials():
        rows = trial.predictions().query("role == 'test' and task == 'PIK3CA'").sort_values("slide_id")
        if len(rows):
            place = grid.models.index(trial.info["model"]), grid.folds.index(trial.info["fold"]), 0
            np.testing.assert_array_equal(task.scores[place], rows["probability"])


def test_a_dataset_in_two_runs_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="both hold 'toy'"):
        grids([run, make_run(tmp_path / "again", models=("m4",))])
