"""The numbers of docs/digits.md are those of the committed run, and the optimum is today's."""

import pandas as pd
import pytest
from digits_endpoints import PLACE, table

from milbench.datasets.digits_endpoints import TASKS, optimum

ROWS = pd.read_csv(PLACE.result)


def test_the_page_says_what_was_measured() -> None:
    page = PLACE.page.read_text(encoding="utf-8")
    assert PLACE.on(page, table(ROWS)) == page


def test_the_committed_optimum_is_that_of_todays_code() -> None:
    assert tuple(ROWS["task"].unique()) == TASKS
    for task, known in optimum().items():
        assert ROWS.loc[ROWS["task"] == task, "optimum"].to_numpy() == pytest.approx(known.value, abs=1e-5)


def test_both_models_learn_every_task_and_none_beats_the_best_answers_on_the_same_bags() -> None:
    means = ROWS.groupby(["model", "task"])[["score", "on_test"]].mean()
    floor = {"has_2": 0.7, "commonest": 0.7, "grade_3": 0.4, "score_1": 0.4, "survival_5": 0.6}
    assert set(ROWS["model"]) == {"amil", "m4"}
    for (_, task), row in means.iterrows():
        assert floor[task] < row["score"] < row["on_test"] + 0.02
