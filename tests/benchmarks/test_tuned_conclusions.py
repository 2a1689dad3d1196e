"""The second table of docs/tuning.md is that of the committed runs."""

import pandas as pd
import pytest
from tuned_conclusions import MODELS, PAIRS, PLACE, SEEDS, optimum, per_training, table

from milbench.stats.by_cohort import ALL

ROWS = pd.read_csv(PLACE.result).fillna({"minus": ""})
SCORES = ROWS.set_index(["settings", "dataset", "model", "minus"])["score"]


def test_the_page_says_what_was_measured() -> None:
    page = PLACE.page.read_text(encoding="utf-8")
    assert PLACE.on(page, table(pd.read_csv(PLACE.result))) == page


@pytest.mark.parametrize("settings", ["default", "tuned"])
def test_a_difference_is_that_of_the_two_scores_and_lies_in_its_interval(settings: str) -> None:
    mine = ROWS[ROWS["settings"] == settings]
    datasets = [ALL, *(f"sim-shared-{seed}" for seed in SEEDS)]
    assert set(mine["dataset"]) == set(datasets)
    assert len(mine) == len(datasets) * (len(MODELS) + len(PAIRS))
    for dataset in datasets:
        for model, minus in PAIRS:
            expected = SCORES[settings, dataset, model, ""] - SCORES[settings, dataset, minus, ""]
            assert SCORES[settings, dataset, model, minus] == pytest.approx(expected, abs=3e-5)
    assert (mine["low"] <= mine["score"]).all()
    assert (mine["score"] <= mine["high"]).all()


def test_the_committed_optimum_is_that_of_todays_code() -> None:
    assert ROWS["optimum"].to_numpy() == pytest.approx(optimum(), abs=1e-5)


def test_budgets_are_compared_by_training_because_single_task_models_train_once_per_task() -> None:
    costs = pd.DataFrame({"bag_steps": [400, 100], "n_trainings": [4, 1]})
    assert per_training(costs)["bag_steps"].tolist() == [100, 100]
