"""The table of docs/tuning.md is that of the committed searches, whose budgets are equal and whose optimum is today's."""

import pandas as pd
import pytest
from tuned_beats_default import (
    CONFIGURATIONS,
    DEFAULTS,
    DESIGN,
    PLACE,
    SEEDS,
    TASK,
    best_on_test,
    interval,
    paired,
    refuse_unequal_budgets,
    split_of,
    table,
)

from milbench.simulate.write import simulate

ROWS = pd.read_csv(PLACE.result)
SEARCHES = ["default", "model", "seed"]


def test_the_page_says_what_was_measured() -> None:
    page = PLACE.page.read_text(encoding="utf-8")
    assert PLACE.on(page, table(ROWS)) == page


def test_every_search_had_as_many_configurations_and_as_many_bags() -> None:
    assert {(d, m) for d, m in zip(ROWS["default"], ROWS["model"], strict=True)} == {
        (default, model) for default, (_, models) in DEFAULTS.items() for model in models
    }
    for _, search in ROWS.groupby(SEARCHES):
        assert search["configuration"].tolist() == list(range(CONFIGURATIONS))
    spent = ROWS.groupby(SEARCHES)["bag_steps"].sum()
    assert spent.groupby("seed").nunique().tolist() == [1] * len(SEEDS)


def test_the_best_validation_score_was_chosen_and_the_lower_number_wins_a_tie() -> None:
    best = ROWS.loc[ROWS.groupby(SEARCHES)["validation"].idxmax()]
    assert best["chosen"].all()
    assert ROWS["chosen"].sum() == len(best)


def test_tuned_is_no_worse_than_the_default_within_noise_and_promises_too_much() -> None:
    """Of every model, over 20 cohorts."""
    for _, rows in ROWS.groupby(["default", "model"]):
        one = paired(rows)
        assert interval(one["tuned"] - one["default"])[2] > 0
        assert one["promised"].mean() >= one["default_promised"].mean()
        assert one["promised"].mean() > one["tuned"].mean()


def test_a_default_that_is_far_too_low_is_beaten() -> None:
    one = paired(ROWS[ROWS["default"] == "too low"])
    assert interval(one["tuned"] - one["default"])[1] > 0.1


def test_no_tuned_model_beats_what_can_be_had() -> None:
    for _, rows in ROWS.groupby(["default", "model"]):
        one = paired(rows)
        assert one["tuned"].mean() < one["on_test"].mean() + 0.02


@pytest.mark.parametrize("seed", [0, 7])
def test_the_committed_optimum_is_that_of_todays_code(seed: int) -> None:
    simulation = simulate(DESIGN, seed)
    mine = ROWS[ROWS["seed"] == seed]
    assert mine["optimum"].to_numpy() == pytest.approx(simulation.oracle.carrier[0], abs=1e-5)
    assert mine["on_test"].to_numpy() == pytest.approx(best_on_test(simulation), abs=1e-5)


def test_every_side_holds_both_labels_alike() -> None:
    simulation = simulate(DESIGN, 0)
    roles = split_of(simulation).set_index("patient_id")["fold_0"]
    patients = simulation.labels.slides.groupby("patient_id")[TASK].first()
    shares = patients.groupby(roles).mean()
    assert shares.to_numpy() == pytest.approx([patients.mean()] * 3, abs=0.05)


def test_a_search_with_more_bags_than_another_stops_the_script() -> None:
    costs = pd.DataFrame({"dataset": ["one", "one"], "model": ["a", "b"], "bag_steps": [10, 11]})
    with pytest.raises(SystemExit, match="on one had unequal budgets"):
        refuse_unequal_budgets(costs)
    refuse_unequal_budgets(costs.assign(bag_steps=10))
