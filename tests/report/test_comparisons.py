"""Figures of comparison and of cost: what they draw is what the tables hold."""

import math

import numpy as np
import pandas as pd
import pytest

from milbench.report.comparisons import comparison_matrix, critical_difference, pareto
from milbench.report.costs import cost_frame, cost_table
from milbench.stats.ranks import rank_models

from runs_for_tests import make_run  # isort: skip

TITLES = {"mean_pooling": "Mean pooling", "amil": "AMIL", "m4": "M4", "dsmil": "DSMIL"}


@pytest.fixture(scope="module")
def ranks():
    rng = np.random.default_rng(0)
    rows = [[0.6 + 0.08 * place + 0.02 * rng.standard_normal() for place in range(len(TITLES))] for _ in range(12)]
    return rank_models(pd.DataFrame(rows, columns=list(TITLES)))


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_critical_difference_diagram_names_every_model_with_its_mean_rank(ranks) -> None:
    drawn = " ".join(texts(critical_difference(ranks, TITLES)))
    for model, title in TITLES.items():
        assert title in drawn
        assert f"{ranks.mean_ranks[model]:.2f}" in drawn


def test_the_comparison_matrix_shows_difference_counts_and_p_of_every_pair(ranks) -> None:
    drawn = texts(comparison_matrix(ranks, TITLES))
    assert len(drawn) == len(TITLES) * (len(TITLES) - 1)
    difference = ranks.mean_difference.loc["dsmil", "mean_pooling"]
    assert any(text.startswith(f"{difference:+.3f}\n12/0/0\n") for text in drawn)


COHORTS = pd.DataFrame(
    {"model": list(TITLES), "title": list(TITLES.values()), "auroc": [0.6, 0.7, 0.8, 0.65], "low": math.nan,
     "high": math.nan, "n_missing": 0}
)  # fmt: skip
COSTS = pd.DataFrame(
    {"model": list(TITLES), "all_tasks_seconds": [1.0, 2.0, 4.0, 8.0], "multiply_adds": [1e6, 1e6, 5e6, math.nan],
     "n_models_for_all_tasks": [10, 10, 1, 10]}
)  # fmt: skip


def filled(figure) -> set[str]:
    """Models on the front."""
    return {line.get_label() for line in figure.axes[0].lines if line.get_markerfacecolor() not in ("white", "w")
            and not line.get_label().startswith("_")}  # fmt: skip


def test_a_model_that_another_beats_in_score_and_cost_is_not_on_the_front() -> None:
    assert filled(pareto(COHORTS, COSTS, "all_tasks_seconds", "toy")) == {"Mean pooling", "AMIL", "M4"}


def test_ten_single_task_models_look_at_a_bag_ten_times() -> None:
    assert filled(pareto(COHORTS, COSTS, "multiply_adds", "toy")) == {"M4"}


def test_there_is_no_front_without_costs() -> None:
    assert pareto(COHORTS, COSTS.assign(multiply_adds=math.nan), "multiply_adds", "toy") is None


def test_all_tasks_cost_one_training_of_a_multi_task_model_and_one_a_task_of_another(tmp_path) -> None:
    costs = cost_frame([make_run(tmp_path / "toy", models=("amil", "m4"))]).set_index("model")
    assert costs["n_models_for_all_tasks"].to_dict() == {"amil": 4, "m4": 1}
    assert costs["all_tasks_seconds"].to_dict() == {"amil": 6.0, "m4": 1.5}


def test_costs_that_no_trial_recorded_have_no_column(tmp_path) -> None:
    table = cost_table("costs", "c", cost_frame([make_run(tmp_path / "toy", models=("amil",))]))
    assert "multiply-adds per bag" not in table.columns
    assert table.columns[0] == "parameters"
    assert table.rows[0].cells[0].text == "1 k"
