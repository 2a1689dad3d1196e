"""Figures of comparison and of cost: what they draw is what the tables hold."""

import math

import numpy as np
import pandas as pd
import pytest

from milbench.report.comparisons import (
    comparison_matrix,
    critical_difference,
    groups_not_told_apart,
    pareto,
    score_ends,
)
from milbench.report.costs import cost_frame, cost_table
from milbench.report.told_apart import ToldApart, smallest_wilcoxon_p
from milbench.stats.ranks import rank_models

from runs_for_tests import make_run  # isort: skip

TITLES = {"mean_pooling": "Mean pooling", "amil": "AMIL", "m4": "M4", "dsmil": "DSMIL"}


@pytest.fixture(scope="module")
def ranks():
    rng = np.random.default_rng(0)
    rows = [[0.6 + 0.08 * place + 0.02 * rng.standard_normal() for place in range(len(TITLES))] for _ in range(12)]
    return rank_models(pd.DataFrame(rows, columns=list(TITLES)))


def verdict(*, apart: bool, can_tell: bool = True, note: str = "") -> ToldApart:
    """All pairs told apart, or none."""
    return ToldApart(pd.DataFrame(0.01 if apart else 1.0, list(TITLES), list(TITLES)), note, can_tell)


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_critical_difference_diagram_names_every_model_with_its_mean_rank(ranks) -> None:
    drawn = " ".join(texts(critical_difference(ranks, TITLES, verdict(apart=True))))
    for model, title in TITLES.items():
        assert title in drawn
        assert f"{ranks.mean_ranks[model]:.2f}" in drawn


def test_the_comparison_matrix_shows_difference_counts_and_p_of_every_pair(ranks) -> None:
    drawn = texts(comparison_matrix(ranks, TITLES, verdict(apart=True)))
    assert len(drawn) == len(TITLES) * (len(TITLES) - 1)
    difference = ranks.mean_difference.loc["dsmil", "mean_pooling"]
    assert f"{difference:+.3f}\n12/0/0\np=.010" in drawn


COHORTS = pd.DataFrame(
    {"model": list(TITLES), "title": list(TITLES.values()), "score": [0.6, 0.7, 0.8, 0.65], "low": math.nan,
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
    assert not any("multiply-adds" in column for column in table.columns)
    assert table.columns[0] == "parameters"
    assert table.rows[0].cells[0].text == "1,000"


def bars(figure) -> int:
    """Thick lines of the diagram that join models."""
    return sum(line.get_linewidth() == 3 for line in figure.axes[0].lines)


def test_a_bar_joins_models_that_the_table_of_pairs_does_not_tell_apart(ranks) -> None:
    assert bars(critical_difference(ranks, TITLES, verdict(apart=False))) == 1
    assert bars(critical_difference(ranks, TITLES, verdict(apart=True))) == 0


def test_where_no_p_can_be_small_the_diagram_says_so_and_draws_no_bar(ranks) -> None:
    figure = critical_difference(ranks, TITLES, verdict(apart=False, can_tell=False, note="No p can fall under 0.05."))
    assert bars(figure) == 0
    below = " ".join(text.get_text() for text in figure.texts)
    assert "No bar is drawn." in below
    assert "No p can fall under 0.05." in below


def test_only_the_longest_runs_of_models_are_joined() -> None:
    p = pd.DataFrame(1.0, list("abcd"), list("abcd"))
    p.loc["a", "d"] = p.loc["d", "a"] = 0.01
    assert groups_not_told_apart(list("abcd"), ToldApart(p, "", True)) == [["a", "b", "c"], ["b", "c", "d"]]


def test_nine_cells_are_too_few_for_wilcoxon_over_36_pairs() -> None:
    assert 36 * smallest_wilcoxon_p(9) > 0.05 > 36 * smallest_wilcoxon_p(11)


def colours(figure) -> np.ndarray:
    cells = np.asarray(figure.axes[0].collections[0].get_facecolor())
    n_models = math.isqrt(len(cells))
    return cells.reshape(n_models, n_models, 4)


def test_the_matrix_is_grey_where_models_are_not_told_apart_and_one_difference_has_one_colour(ranks) -> None:
    grey = colours(comparison_matrix(ranks, TITLES, verdict(apart=False)))
    off = ~np.eye(len(TITLES), dtype=bool)
    assert np.ptp(grey[off][:, :3]) == 0
    shades = colours(comparison_matrix(ranks, TITLES, verdict(apart=True)))
    few = ["mean_pooling", "dsmil"]
    small = rank_models(
        pd.DataFrame({model: [0.6 + 0.25 * (model == "dsmil") + 0.01 * row for row in range(6)] for model in few})
    )
    other = colours(comparison_matrix(small, TITLES, verdict(apart=True)))
    assert ranks.mean_difference.loc["dsmil", "mean_pooling"] > 0.2 < small.mean_difference.loc["dsmil", "mean_pooling"]
    np.testing.assert_array_equal(shades[0, -1], other[0, -1])  # both beyond the fixed scale: fully blue


def test_a_model_without_an_interval_has_no_whisker() -> None:
    figure = pareto(COHORTS.assign(low=[0.5, math.nan, math.nan, math.nan], high=[0.7, math.nan, math.nan, math.nan]), COSTS,
                    "all_tasks_seconds", "toy")  # fmt: skip
    whiskers = [
        line for line in figure.axes[0].lines if line.get_marker() in ("None", None, "") and len(line.get_xdata()) == 2
    ]
    assert [tuple(line.get_ydata()) for line in whiskers] == [(0.5, 0.7)]
    assert pareto(COHORTS, COSTS, "all_tasks_seconds", "toy").axes[0].get_ylabel() == "mean test AUROC"


def test_axes_do_not_zoom_into_noise() -> None:
    alike = COHORTS.assign(score=[0.700, 0.701, 0.702, 0.703])
    axes = pareto(alike, COSTS.assign(all_tasks_seconds=[1.0, 1.01, 1.02, 1.03]), "all_tasks_seconds", "toy").axes[0]
    low, high = axes.get_ylim()
    assert high - low >= 0.0999
    assert low < 0.7 < 0.703 < high
    left, right = axes.get_xlim()
    assert right / left >= 9.99
    assert score_ends(np.array([0.999, 1.0]))[1] <= 1.01
    low, high = score_ends(np.array([0.2, 1.0]))
    assert low < 0.2
    assert high >= 1.0


def test_the_cost_axis_has_units_that_read_well() -> None:
    axes = pareto(
        COHORTS, COSTS.assign(all_tasks_seconds=[60.0, 600.0, 3600.0, 7200.0]), "all_tasks_seconds", "toy"
    ).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert {"5 min", "2 h"} <= set(labels)
