"""Scores and summaries against scikit-learn and plain loops over the stored predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs_for_tests import MODELS, TASKS, make_run
from sklearn.metrics import roc_auc_score

from milbench.stats.scores import score_table, summary
from milbench.store.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "toy")


def test_every_score_is_scikit_learns_on_the_stored_test_predictions(run: Run) -> None:
    scores = score_table([run]).set_index(["model", "task", "fold"])["score"]
    assert len(scores) == len(MODELS) * len(TASKS) * 3
    for trial in run.trials():
        table = trial.predictions().query("role == 'test'")
        for task, rows in table.groupby("task"):
            expected = roc_auc_score(rows["target"], rows["probability"])
            assert scores[trial.info["model"], task, trial.info["fold"]] == pytest.approx(expected, abs=1e-12)


def test_the_summary_is_the_mean_over_tasks_then_over_folds_without_the_control(run: Run) -> None:
    scores = score_table([run])
    result = summary(scores).set_index("model")
    for model, rows in scores[scores["task"] != "control"].groupby("model"):
        per_fold = [rows[rows["fold"] == fold]["score"].mean() for fold in (0, 1, 2)]
        assert result.loc[model, "mean"] == pytest.approx(np.mean(per_fold))
        assert result.loc[model, "sd"] == pytest.approx(np.std(per_fold, ddof=1))
    assert (result["n_tasks"] == 3).all()
    assert (result["n_missing"] == 0).all()


def test_rows_follow_the_registry_and_the_cohort_not_the_alphabet(run: Run) -> None:
    scores = score_table([run])
    assert tuple(dict.fromkeys(scores["model"])) == tuple(MODELS)
    assert tuple(dict.fromkeys(scores["task"])) == TASKS


def test_cells_that_other_models_have_are_counted_as_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("amil", "m4"), leave_out=("toy/amil/TP53/fold0", "toy/m4/all/fold2"))
    assert summary(score_table([run])).set_index("model")["n_missing"].to_dict() == {"amil": 1, "m4": 3}


def test_tasks_keep_the_order_of_their_own_cohort_where_cohorts_share_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "two", datasets=("one", "other"), models=("amil", "m4"))
    run.datasets["other"]["tasks"] = list(reversed(TASKS))
    scores = score_table([run])
    for dataset, expected in (("one", TASKS), ("other", TASKS[::-1])):
        for _, rows in scores[scores["dataset"] == dataset].groupby("model"):
            assert tuple(dict.fromkeys(rows["task"])) == expected


def test_a_score_that_only_one_model_lacks_makes_that_model_incomplete() -> None:
    base = {"dataset": "toy", "is_control": False, "seed": 1, "fold": 0}
    rows = [("amil", "a", 0.6), ("amil", "b", np.nan), ("amil", "c", np.nan)]
    rows += [("m4", "a", 0.7), ("m4", "b", 0.8), ("m4", "c", np.nan)]
    scores = pd.DataFrame([{**base, "model": m, "title": m, "task": task, "score": auroc} for m, task, auroc in rows])
    result = summary(scores).set_index("model")
    assert result["n_missing"].to_dict() == {"amil": 1, "m4": 0}
    assert result["n_cells"].to_dict() == {"amil": 2, "m4": 2}, "nobody can have task c"


def test_an_undefined_auroc_is_left_out_and_counted() -> None:
    base = {"dataset": "toy", "model": "amil", "title": "AMIL", "is_control": False, "seed": 1}
    rows = [("a", 0, 0.6), ("b", 0, np.nan), ("a", 1, 0.8), ("b", 1, 0.4)]
    scores = pd.DataFrame([{**base, "task": task, "fold": fold, "score": auroc} for task, fold, auroc in rows])
    result = summary(scores).iloc[0]
    assert result["mean"] == pytest.approx((0.6 + 0.6) / 2)
    assert result["n_undefined"] == 1


def test_a_single_fold_has_no_spread(tmp_path: Path) -> None:
    assert np.isnan(summary(score_table([make_run(tmp_path / "toy", models=("m4",), folds=(0,))]))["sd"].iloc[0])
