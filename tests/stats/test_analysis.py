"""The analysis of whole runs: complete and not, with one model, one fold, one class, differing test sides."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs_for_tests import MODELS, TASKS, make_run

from milbench.errors import StoreError
from milbench.stats.analysis import Analysis, analyse
from milbench.stats.crossed import crossed_draws, generator, interval
from milbench.stats.grid import grids
from milbench.stats.scores import score_table, summary
from milbench.store.run import Run
from milbench.store.run_writing import write_trial

SIGNAL = TASKS[:3]
DRAWS = 300


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "two", datasets=("one", "second"))


@pytest.fixture(scope="module")
def analysis(run: Run) -> Analysis:
    return analyse([run], draws=DRAWS)


def frames(analysis: Analysis) -> dict[str, pd.DataFrame]:
    values = {field.name: getattr(analysis, field.name) for field in fields(analysis)}
    return {name: value for name, value in values.items() if isinstance(value, pd.DataFrame)}


def test_every_table_has_one_row_for_each_of_its_keys(analysis: Analysis) -> None:
    keys = {
        "scores": ["dataset", "model", "task", "fold", "seed", "level"], "tasks": ["dataset", "task"],
        "cells": ["dataset", "task", "model"], "against": ["dataset", "task", "model"],
        "cohorts": ["dataset", "model"], "overall": ["model"], "pairs": ["dataset", "model_a", "model_b"],
    }  # fmt: skip
    sizes = {"scores": 336, "tasks": 8, "cells": 56, "against": 48, "cohorts": 14, "overall": 7, "pairs": 63}
    for name, frame in frames(analysis).items():
        assert not frame.duplicated(keys[name]).any()
        assert len(frame) == sizes[name], name


def test_means_are_those_of_the_summary(run: Run, analysis: Analysis) -> None:
    means = summary(score_table([run])).set_index(["dataset", "model"])
    found = analysis.cohorts.set_index(["dataset", "model"])
    for ours, theirs in (("score", "mean"), ("sd", "sd"), ("n_tasks", "n_tasks"), ("n_cells", "n_cells")):
        pd.testing.assert_series_equal(found[ours], means[theirs], check_names=False)
    overall = found["score"].groupby("model").mean()
    assert analysis.overall.set_index("model")["score"].to_dict() == pytest.approx(overall.to_dict())


def test_intervals_hold_their_estimate_and_cohorts_drawn_too_are_named_apart(analysis: Analysis) -> None:
    for frame, point in (("cells", "score"), ("cohorts", "score"), ("overall", "score"), ("pairs", "delta")):
        rows = frames(analysis)[frame]
        assert ((rows["low"] <= rows[point]) & (rows[point] <= rows["high"])).all(), frame
    assert {"low_fixed", "high_fixed"} < set(analysis.overall)


def test_a_cells_interval_is_that_of_its_own_crossed_draws(run: Run, analysis: Analysis) -> None:
    grid = grids([run])[0]
    draws = crossed_draws(grid.task("TP53"), generator(0, "one", "TP53"), DRAWS)
    row = analysis.cells.query("dataset == 'one' and task == 'TP53' and model == 'm4'").iloc[0]
    assert (row["low"], row["high"]) == interval(draws[:, grid.models.index("m4")])


def test_models_are_held_against_the_reference_with_families_of_their_own(analysis: Analysis) -> None:
    against = analysis.against
    assert set(against["model"]) == set(MODELS) - {"amil"}
    assert (against["p_holm"] >= against["p"]).all()
    signal = against[~against["is_control"]]
    assert (signal["q_bh"] >= signal["p"]).all()
    assert against.loc[against["is_control"], "q_bh"].isna().all(), "a control is no discovery"
    auroc = analysis.cells.set_index(["dataset", "task", "model"])["score"]
    row = against.query("dataset == 'one' and task == 'A_B' and model == 'm4'").iloc[0]
    assert row["delta"] == pytest.approx(auroc["one", "A_B", "m4"] - auroc["one", "A_B", "amil"])


def test_a_far_better_model_is_found_and_neighbours_are_not_told_apart(analysis: Analysis) -> None:
    pairs = analysis.pairs.query("dataset == 'all'").set_index(["model_a", "model_b"])
    clear, close = pairs.loc[("mean_pooling", "m4")], pairs.loc[("mmoe_mp_amil", "m4")]
    assert clear["delta"] < 0
    assert clear["p_holm"] < 0.1
    assert clear["superiority"] == 0
    assert close["p_holm"] > 0.1
    assert clear["p_sign_flip"] == 0.5, "two cohorts, four patterns of signs"
    assert analysis.pairs.query("dataset == 'one'")["p_sign_flip"].isna().all()


def test_ranks_leave_the_control_out(analysis: Analysis) -> None:
    assert analysis.ranks.n_cells == 2 * len(SIGNAL)
    assert list(analysis.ranks.mean_ranks.index) == list(MODELS)


def test_the_same_runs_give_the_same_bytes_and_another_seed_others(run: Run, analysis: Analysis) -> None:
    again, other = analyse([Run(run.path)], draws=DRAWS), analyse([run], draws=DRAWS, seed=1)
    for name, frame in frames(analysis).items():
        assert frames(again)[name].to_csv() == frame.to_csv(), name
    assert other.cells.to_csv() != analysis.cells.to_csv()


def test_another_cohort_changes_no_draws_of_the_first(analysis: Analysis, tmp_path: Path) -> None:
    alone = analyse([make_run(tmp_path / "one", datasets=("one",))], draws=DRAWS)
    for name in ("cells", "against", "cohorts", "pairs"):
        whole = frames(analysis)[name]
        first = whole[whole["dataset"] == "one"].reset_index(drop=True)
        pd.testing.assert_frame_equal(frames(alone)[name], first, check_dtype=False)


def test_an_incomplete_grid_is_refused_with_what_is_missing_and_what_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("amil", "m4"), leave_out=("toy/amil/TP53/fold0",))
    with pytest.raises(StoreError, match=r"amil lacks 1 of 12 on toy .* --complete-cases"):
        analyse([run], draws=DRAWS)


def test_complete_cases_leaves_out_what_not_all_models_finished(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("amil", "m4"), leave_out=("toy/amil/TP53/fold0",))
    analysis = analyse([run], draws=DRAWS, complete_cases=True)
    assert analysis.left_out == (("toy", "TP53"),)
    assert analysis.incomplete == (("toy", "amil", 1, 12),)
    assert set(analysis.cohorts["n_tasks"]) == {2}
    assert analysis.ranks.n_cells == 2
    cells = analysis.cells.set_index(["task", "model"])
    assert cells.loc[("TP53", "amil"), "n_missing"] == 1
    assert cells["low"].notna().all(), "a model's own cell has its own interval"
    against = analysis.against.set_index("task")
    assert against.loc["TP53", ["delta", "p", "p_holm", "q_bh"]].isna().all()
    assert against.loc["A_B", ["delta", "p", "p_holm", "q_bh"]].notna().all()


def test_a_cohort_that_a_model_never_saw_is_left_out_whole(tmp_path: Path) -> None:
    slots = [f"second/amil/{task}/fold{fold}" for task in TASKS for fold in (0, 1, 2)]
    run = make_run(tmp_path / "two", datasets=("one", "second"), models=("amil", "m4"), leave_out=tuple(slots))
    with pytest.raises(StoreError, match="amil lacks 12 of 12 on second"):
        analyse([run], draws=DRAWS)
    analysis = analyse([run], draws=DRAWS, complete_cases=True)
    assert set(analysis.overall["n_cohorts"]) == {1}
    assert set(analysis.pairs["dataset"]) == {"one", "second"}
    assert analysis.pairs.query("dataset == 'second'")["p"].isna().all()


def test_one_model_has_intervals_and_nothing_to_be_compared_with(tmp_path: Path) -> None:
    analysis = analyse([make_run(tmp_path / "toy", models=("m4",))], draws=DRAWS)
    assert analysis.reference is None
    assert analysis.ranks is None
    assert analysis.pairs.empty
    assert analysis.cells["low"].notna().all()
    assert analysis.overall[["low", "high"]].isna().all(axis=None), "one cohort says nothing of others"
    assert analysis.overall[["low_fixed", "high_fixed"]].notna().all(axis=None)


def test_one_fold_has_an_interval_and_no_spread(tmp_path: Path) -> None:
    analysis = analyse([make_run(tmp_path / "toy", models=("amil", "m4"), folds=(0,))], draws=DRAWS)
    assert analysis.cells["sd"].isna().all()
    assert analysis.cells["low"].notna().all()


def test_a_task_of_one_class_is_undefined_for_all_and_missing_from_none(tmp_path: Path) -> None:
    analysis = analyse([make_run(tmp_path / "toy", models=("amil", "m4"), one_class=("TP53",))], draws=DRAWS)
    assert analysis.incomplete == ()
    row = analysis.tasks.set_index("task").loc["TP53"]
    assert (row["n_positive"], row["prevalence"], row["too_small"]) == (0, 0, True)
    cells = analysis.cells.set_index("task").loc["TP53"]
    assert cells[["score", "low", "high", "ensemble_score", "ensemble_low"]].isna().all(axis=None)
    assert set(analysis.cohorts["n_undefined"]) == {3}
    assert analysis.cohorts["low"].notna().all()


def change_predictions(run: Run, change: object) -> None:
    for trial in run.trials():
        write_trial(run, trial.id, trial.info, change(trial.predictions(), trial.info), trial.history(), None)


def test_fewer_than_ten_positives_have_a_mean_and_no_interval(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("amil", "m4"))

    def few(table: pd.DataFrame, about: dict) -> pd.DataFrame:
        number = table["slide_id"].str[1:].astype(int)
        return table.assign(target=table["target"].where(table["task"] != "TP53", (number < 9).astype(float)))

    change_predictions(run, few)
    analysis = analyse([run], draws=DRAWS)
    cells, against = analysis.cells.set_index("task"), analysis.against.set_index("task")
    assert analysis.tasks.set_index("task")["too_small"].to_dict() == {task: task == "TP53" for task in TASKS}
    assert cells.loc["TP53", "score"].notna().all()
    assert cells.loc["TP53", ["low", "high", "ensemble_low", "ensemble_high"]].isna().all(axis=None)
    assert against.loc["TP53", ["p", "p_holm", "q_bh", "p_ensemble"]].isna().all()
    assert against.loc["A_B", ["p", "p_holm", "q_bh", "p_ensemble"]].notna().all()


def test_folds_with_test_sides_of_their_own_have_crossed_intervals_and_no_ensemble(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("amil", "m4"))

    def own_third(table: pd.DataFrame, about: dict) -> pd.DataFrame:
        return table[(table["role"] == "val") | (table["slide_id"].str[1:].astype(int) % 3 == about["fold"])]

    change_predictions(run, own_third)
    analysis = analyse([run], draws=DRAWS)
    assert set(analysis.tasks["n_patients"]) == {60}
    assert analysis.cells["low"].notna().all()
    assert analysis.cells[["ensemble_score", "ensemble_low"]].isna().all(axis=None)
    assert analysis.against["p"].notna().all()
    assert analysis.against["p_ensemble"].isna().all()
    per_fold = analysis.scores.query("task == 'A_B' and model == 'm4' and level == 'slide'")["score"]
    cell = analysis.cells.query("task == 'A_B' and model == 'm4'").iloc[0]
    assert cell["score"] == pytest.approx(per_fold.mean()), "never pooled over folds"


def test_runs_without_a_finished_trial_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no finished trial"):
        analyse([make_run(tmp_path / "none", models=())], draws=DRAWS)


def test_no_bound_is_infinite(analysis: Analysis) -> None:
    for frame in frames(analysis).values():
        assert not np.isinf(frame.select_dtypes("number")).any(axis=None)
