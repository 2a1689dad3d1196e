"""Arms: the numbers of the analysis, and differences between runs under the same draws."""

from pathlib import Path

import numpy as np
import pytest
from claims_for_tests import GENES, skilled_run
from runs_for_tests import write_as_another

from milbench.errors import StoreError
from milbench.stats.analysis import analyse
from milbench.stats.arms import Arm, Comparison, Estimate, mean_of
from milbench.stats.crossed import interval
from milbench.store.run import Run

DRAWS = 300


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "main": skilled_run(folder / "main", {"one": {"amil": 0.8, "m4": 1.0}}),
        "other": skilled_run(folder / "other", {"one": {"m4": 1.2}}),
    }


def compared(runs: dict[str, Run]) -> Comparison:
    arms = [Arm("amil", runs["main"], "amil"), Arm("m4", runs["main"], "m4"), Arm("more", runs["other"], "m4")]
    return Comparison("one", arms, DRAWS)


def test_the_numbers_and_intervals_of_one_run_are_those_of_its_analysis(runs: dict[str, Run]) -> None:
    analysis = analyse([runs["main"]], draws=DRAWS)
    arms = [Arm(model, runs["main"], model) for model in ("amil", "m4")]
    comparison = Comparison("one", arms, DRAWS)
    for row in analysis.cohorts.itertuples():
        found = comparison.mean(row.model, GENES)
        assert found.value == pytest.approx(row.score, abs=1e-12)
        assert interval(found.draws) == pytest.approx((row.low, row.high), abs=1e-12)
    pair = analysis.pairs.iloc[0]
    difference = comparison.mean(pair.model_a, GENES).minus(comparison.mean(pair.model_b, GENES))
    assert interval(difference.draws) == pytest.approx((pair.low, pair.high), abs=1e-12)
    for row in analysis.cells.itertuples():
        assert comparison.task(row.model, row.task).value == pytest.approx(row.score, abs=1e-12)


def test_arms_of_two_runs_are_compared_patient_by_patient(runs: dict[str, Run]) -> None:
    comparison = compared(runs)
    more, m4 = comparison.mean("more", GENES), comparison.mean("m4", GENES)
    difference = more.minus(m4)
    assert difference.value == pytest.approx(more.value - m4.value)
    assert difference.value > 0
    assert np.std(difference.draws) < np.std(more.draws) / 4, "the same patients are in both"


def test_what_an_arm_lacks_is_named(runs: dict[str, Run], tmp_path: Path) -> None:
    comparison = compared(runs)
    with pytest.raises(StoreError, match="dsmil was not trained on one"):
        comparison.mean("dsmil", GENES)
    with pytest.raises(StoreError, match="was not trained on G9 of one"):
        comparison.task("m4", "G9")
    with pytest.raises(StoreError, match="elsewhere is not in the stores"):
        _ = Comparison("elsewhere", comparison.arms, DRAWS).grid


def test_an_arm_that_has_not_finished_a_fold_is_not_averaged_over_the_rest(tmp_path: Path) -> None:
    run = skilled_run(tmp_path / "main", {"one": {"amil": 0.8, "m4": 1.0}})
    planned = {slot: trial for slot, trial in run.planned().items() if slot != "one/amil/G2/fold1-seed42"}
    (run.path / "plan.json").write_text(str(planned).replace("'", '"'))
    comparison = Comparison("one", [Arm("amil", Run(run.path), "amil"), Arm("m4", Run(run.path), "m4")], DRAWS)
    with pytest.raises(StoreError, match="amil has not finished G2 of one"):
        comparison.mean("amil", GENES)
    assert comparison.mean("amil", ["G1"]).value > 0.5


def test_runs_of_other_splits_are_not_compared(runs: dict[str, Run], tmp_path: Path) -> None:
    other = skilled_run(tmp_path / "other", {"one": {"m4": 1.2}})
    for trial in other.trials():
        write_as_another(other, trial, trial.predictions(), split_sha256="0" * 64)
    with pytest.raises(StoreError, match="different splits"):
        compared({"main": runs["main"], "other": Run(other.path)}).mean("m4", GENES)


def test_the_mean_of_cohorts_has_no_draws_where_one_has_none() -> None:
    drawn = Estimate(0.6, np.array([0.5, 0.7]))
    assert mean_of([drawn, Estimate(0.8, np.array([0.9, 0.7]))]).draws.tolist() == pytest.approx([0.7, 0.7])
    assert not len(mean_of([drawn, Estimate(0.8)]).draws)
    assert mean_of([drawn, Estimate(0.8)]).value == pytest.approx(0.7)
