"""Budget curves: exact expectations over all draws, with failures that are spent and ties that the default wins."""

from __future__ import annotations

from itertools import combinations
from math import isnan, nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs_for_tests import make_run
from tuned_runs_for_tests import make_tuned

from milbench.stats.search import BudgetCurve, best_of, budget_curve, mean_curve, scored, spent, trials_of_search
from milbench.stats.searched_tests import scores_by_configuration
from milbench.store.run import Run, open_run
from milbench.store.run_folder import TUNING
from milbench.store.trial import StoredTrial

TESTS = [0.61, 0.52, 0.73, 0.44, 0.65, 0.56, 0.67]
SEARCHES = {
    "all differ": [0.60, 0.50, 0.70, 0.80, 0.55, 0.90, 0.65],
    "ties, one with the default": [0.60, 0.60, 0.70, 0.70, 0.50, 0.70, 0.60],
    "failures": [0.60, nan, 0.70, nan, 0.50, 0.90, nan],
    "the default failed": [nan, 0.50, 0.70, 0.80, 0.55, 0.90, 0.65],
    "the default and others failed": [nan, nan, 0.70, nan, 0.55, 0.90, 0.65],
    "all others failed": [0.60, nan, nan, nan, nan, nan, nan],
}


def winner(drawn: tuple[int, ...], scores: list[float]) -> int:
    """What a search of the default and these would choose, by the rule as it is told: the best score, the lower number."""
    with_score = [n for n in (0, *drawn) if not isnan(scores[n])]
    return min(with_score, key=lambda n: (-scores[n], n)) if with_score else 0


@pytest.mark.parametrize("scores", SEARCHES.values(), ids=SEARCHES)
def test_the_curve_is_the_mean_over_all_draws(scores: list[float]) -> None:
    curve = budget_curve(scores, TESTS)
    for k in range(7):
        winners = [winner(drawn, scores) for drawn in combinations(range(1, 7), k)]
        for values, mean, sd in ((scores, curve.score, curve.score_sd), (TESTS, curve.test, curve.test_sd)):
            found = np.array([values[n] for n in winners])
            assert mean[k] == pytest.approx(found.mean(), nan_ok=True)
            assert sd[k] == pytest.approx(found.std(), abs=1e-9, nan_ok=True)


def test_the_curve_begins_at_the_default_never_falls_and_ends_at_the_choice() -> None:
    curve = budget_curve(SEARCHES["all differ"], TESTS)
    assert (curve.score[0], curve.test[0]) == (0.60, TESTS[0])
    assert (curve.score[-1], curve.test[-1]) == (pytest.approx(0.90), pytest.approx(TESTS[5]))
    assert (np.diff(curve.score) > 0).all()
    assert curve.score_sd[[0, -1]] == pytest.approx([0, 0], abs=1e-9)


def test_without_test_scores_the_curve_has_none_and_one_configuration_is_a_curve() -> None:
    curve = budget_curve([0.6, 0.7])
    assert np.isnan([*curve.test, *curve.test_sd]).all()
    assert budget_curve([0.6], [0.5]).score.tolist() == [0.6]


def test_large_searches_do_not_overflow() -> None:
    scores = np.random.default_rng(0).random(1001)
    assert budget_curve(list(scores)).score[-1] == pytest.approx(scores.max())


def test_the_mean_of_tasks_has_no_spread_and_leaves_out_tasks_without_a_test_score() -> None:
    one, other = budget_curve([0.5, 0.7], [0.4, 0.6]), budget_curve([0.7, 0.6])
    mean = mean_curve([one, other])
    assert mean.score.tolist() == pytest.approx([0.6, 0.7])
    assert mean.test.tolist() == pytest.approx([0.4, 0.6])
    assert np.isnan([*mean.score_sd, *mean.test_sd]).all()
    assert isinstance(mean_curve([one]), BudgetCurve)
    assert mean_curve([one]).score_sd.tolist() == one.score_sd.tolist()


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    plain = make_run(folder / "plain", models=("amil", "m4"), folds=(0, 1))
    make_tuned(plain, folder / "tuned", {"amil": [0.6, 0.7, nan], "m4": [0.6, 0.5, 0.55]})
    return open_run(folder / "tuned" / TUNING)


def test_what_a_search_cost_counts_trainings_and_failed_configurations(search: Run) -> None:
    costs = spent(trials_of_search(search, per_task=False)).set_index("model")
    assert costs.loc["m4", ["n_trainings", "n_failed", "n_stopped"]].tolist() == [6, 0, 0]
    assert costs.loc["amil", ["n_trainings", "n_failed"]].tolist() == [16, 1]  # 4 tasks, 2 folds, 2 that did not fail
    assert costs["seconds"].to_dict() == {"amil": 48.0, "m4": 18.0}
    assert costs["bag_steps"].to_dict() == {"amil": 16 * 200, "m4": 6 * 200}


ONE = {
    "dataset": "toy", "model": "amil", "task": "", "fold": 0, "seed": 42, "epochs": 0, "failed": False, "seconds": 1.0,
    "bag_steps": 10, "trainer": {}, "model_arguments": {},
}  # fmt: skip


def rows_of(*scores: tuple[str, int, float], **others: object) -> pd.DataFrame:
    """Trials of a search, from task, configuration and score; the task "control" has no signal."""
    return pd.DataFrame([
        {**ONE, "tasks": task, "configuration": n, "score": score, "is_control": task == "control", **others}
        for task, n, score in scores
    ])  # fmt: skip


def test_controls_choose_nothing_where_signal_tasks_have_no_score() -> None:
    rows = rows_of(("A", 0, nan), ("A", 1, nan), ("control", 0, 0.4), ("control", 1, 0.9))
    assert best_of(scored(rows), ("toy", "amil", "")) == []


def test_a_configuration_that_fails_on_a_control_task_alone_has_failed() -> None:
    rows = rows_of(("A", 0, 0.6), ("A", 1, 0.7), ("control", 0, 0.4), ("control", 1, nan))
    rows["failed"] = rows["score"].isna()
    assert best_of(scored(rows), ("toy", "amil", "")) == [0]


def test_trials_of_a_run_are_controls_by_what_the_run_says_of_its_cohort(search: Run) -> None:
    rows = trials_of_search(search, per_task=False)
    assert set(rows.loc[rows["is_control"], "tasks"]) == {"control"}
    assert not rows.loc[rows["model"] == "m4", "is_control"].any()


def test_test_scores_of_configurations_are_means_over_signal_tasks(search: Run) -> None:
    table = scores_by_configuration(search, "binary", per_task=False).set_index(["model", "configuration"])["score"]
    assert sorted(table.index) == [("amil", 0), ("amil", 1), ("m4", 0), ("m4", 1), ("m4", 2)]
    assert table["m4", 1] == pytest.approx(1 - table["m4", 0])  # configuration 1 says the opposite
    assert table["m4", 2] == table["m4", 0] > 0.6


def test_an_answer_without_a_score_counts_as_chance_where_others_have_one(
    search: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scored(trial: StoredTrial) -> dict[str, float]:
        is_constant = trial.info["search"]["configuration"] == 1
        return {task: nan if is_constant or task == "A_B" else 0.9 for task in trial.info["tasks"]}

    monkeypatch.setattr("milbench.stats.searched_tests.scores_on_test", scored)
    table = scores_by_configuration(search, "binary", per_task=False).set_index(["model", "configuration"])["score"]
    assert table.to_dict() == pytest.approx({("amil", 0): 0.9, ("amil", 1): 0.5, ("m4", 0): 0.9, ("m4", 1): 0.5, ("m4", 2): 0.9})  # fmt: skip


def test_a_configuration_that_lacks_a_training_has_no_test_score(search: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [trial for trial in search.trials() if "TP53" not in trial.info["tasks"] or trial.info["fold"] == 0]
    trials += [trial for trial in search.trials() if trial.info["search"]["configuration"] == 0 and trial not in trials]
    monkeypatch.setattr(search, "trials", lambda: trials)
    table = scores_by_configuration(search, "binary", per_task=False).set_index(["model", "configuration"])["score"]
    assert table.isna().to_dict() == {("amil", 0): False, ("amil", 1): True, ("m4", 0): False, ("m4", 1): True, ("m4", 2): True}  # fmt: skip


def test_a_search_that_predicts_no_test_side_has_no_test_scores(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", models=("m4",), folds=(0,))
    make_tuned(plain, tmp_path / "tuned", {"m4": [0.6, 0.7]}, test=False)
    assert scores_by_configuration(open_run(tmp_path / "tuned" / TUNING), "binary", per_task=False).empty


def test_trainings_of_control_tasks_choose_nothing_but_their_own_settings() -> None:
    cells = [("real", 0, 0.6), ("real", 1, 0.7), ("coin", 0, 0.9), ("coin", 1, 0.1)]
    rows = pd.DataFrame([
        {"dataset": "d", "model": "m", "task": "", "tasks": task, "fold": 0, "seed": 0, "epochs": 0, "configuration": number,
         "score": score, "failed": False, "seconds": 1.0, "bag_steps": 10, "trainer": {}, "model_arguments": {},
         "is_control": task == "coin"}
        for task, number, score in cells
    ])  # fmt: skip
    assert best_of(scored(rows), ("d", "m", "")) == [1, 0]
    apart = rows.assign(task=rows["tasks"])
    assert [best_of(scored(apart), ("d", "m", task)) for task in ("real", "coin")] == [[1, 0], [0, 1]]


def test_a_validation_side_of_one_class_says_nothing_and_its_task_is_left_out_for_all() -> None:
    rows = rows_of(("one_class", 0, nan), ("one_class", 1, nan), ("A", 0, 0.6), ("A", 1, 0.7))
    table = scored(rows)
    assert dict(zip(table["configuration"], table["score"], strict=True)) == {1: 0.7, 0: 0.6}
    assert best_of(scored(rows_of(("one_class", 0, nan), ("one_class", 1, nan))), ("toy", "amil", "")) == []


def test_a_score_that_only_some_configurations_lack_counts_as_0() -> None:
    table = scored(rows_of(("A", 0, 0.6), ("A", 1, nan), ("B", 0, 0.6), ("B", 1, 0.9))).set_index("configuration")
    assert table["score"].to_dict() == pytest.approx({0: 0.6, 1: 0.45})
