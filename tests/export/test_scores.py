"""Scores of an export are those that the report prints."""

from pathlib import Path

import pytest
from exports_for_tests import asked_for
from runs_for_tests import make_run

import milbench
from milbench.export.scores import scores_of
from milbench.runs.notebook import NotebookRun

DRAWS = 200


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    path = tmp_path_factory.mktemp("scores") / "toy"
    make_run(path, models=("amil", "transmil", "m4"))
    return milbench.open_run(path)


@pytest.mark.parametrize(("model", "task"), [("amil", "TP53"), ("m4", "PIK3CA")])
def test_an_ensemble_has_the_report_s_mean_ensemble_and_intervals(run: NotebookRun, model: str, task: str) -> None:
    cells = milbench.statistics(run, draws=DRAWS)["binary"].cells
    cell = cells[(cells["model"] == model) & (cells["task"] == task)].iloc[0]
    told = scores_of(asked_for(run, model, task=task), DRAWS)[task]
    assert {name: told["trainings"][name] for name in ("score", "sd", "low", "high")} == {
        name: cell[name] for name in ("score", "sd", "low", "high")
    }
    assert told["trainings"]["number"] == 3
    expected = [cell[f"ensemble_{name}"] for name in ("score", "low", "high")]
    assert [told["exported"][name] for name in ("score", "low", "high")] == pytest.approx(expected, rel=1e-12)
    assert told["exported"]["low"] < told["exported"]["score"] < told["exported"]["high"]


def test_a_fold_has_its_own_score_and_the_report_s_mean(run: NotebookRun) -> None:
    analysis = milbench.statistics(run, draws=DRAWS)["binary"]
    rows = analysis.scores
    mine = rows[(rows["model"] == "amil") & (rows["task"] == "TP53") & (rows["fold"] == 1)].set_index("level")
    told = scores_of(asked_for(run, "amil", task="TP53", fold=1), DRAWS)["TP53"]
    for level in ("slide", "patient"):
        own = told["each"]["fold1-seed42"][level]
        assert own["auroc"] == mine.loc[level, "score"]
        assert own["threshold"] == mine.loc[level, "threshold"]
    assert told["exported"]["score"] == pytest.approx(mine.loc["patient", "score"])
    cell = analysis.cells.query("model == 'amil' and task == 'TP53'").iloc[0]
    assert (told["trainings"]["score"], told["trainings"]["low"]) == (cell["score"], cell["low"])
    assert told["test_side"]["n_patients"] == 60


def test_a_control_task_is_told_as_one(run: NotebookRun) -> None:
    found = scores_of(asked_for(run, "m4", task="control"), DRAWS)
    assert [task for task, told in found.items() if told["is_control"]] == ["control"]


def test_a_score_that_is_undefined_is_none(tmp_path: Path) -> None:
    make_run(tmp_path / "toy", models=("amil",), one_class=("TP53",))
    run = milbench.open_run(tmp_path / "toy")
    told = scores_of(asked_for(run, "amil", task="TP53"), DRAWS)["TP53"]
    assert (told["exported"]["score"], told["trainings"]["score"]) == (None, None)
    assert told["too_small_for_an_interval"]
