"""Simulated tasks of every kind: labels follow from the levels that slides show, and files are what readers expect."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from commands_for_tests import FAST, Milbench

from milbench.cohorts.cohort import folder_cohort
from milbench.endpoints.endpoint import KINDS
from milbench.errors import UsageError
from milbench.simulate.design import OF_OTHER_KINDS, Design, make_design
from milbench.simulate.write import Simulation, simulate, write_cohort

TASKS = ("mutated", "subtype", "grade", "score", "os")


def small(*settings: tuple[str, object]) -> Design:
    return make_design("kinds", [("slides", 60), ("patches", 16), *settings])


def large() -> Simulation:
    return simulate(small(("slides", 6000), ("classes", [3, 5, 4, 3, 3])), 0)


def test_a_cohort_is_read_back_with_its_kinds_and_labels(tmp_path: Path) -> None:
    simulation = simulate(small(), 0)
    write_cohort(simulation, tmp_path)
    cohort = folder_cohort(tmp_path)
    assert cohort.tasks == TASKS
    assert tuple(cohort.endpoint(task).kind for task in TASKS) == KINDS
    assert cohort.endpoint("grade").classes == ("G1", "G2", "G3", "G4")
    pd.testing.assert_frame_equal(cohort.slides[list(TASKS)], simulation.labels.slides[list(TASKS)])


def test_labels_are_words_numbers_days_and_events(tmp_path: Path) -> None:
    write_cohort(simulate(small(), 0), tmp_path)
    labels = pd.read_csv(tmp_path / "labels.csv")
    assert list(labels) == ["case_id", "slide_id", "mutated", "subtype", "grade", "score", "os_days", "os_event"]
    assert set(labels["subtype"]) == {"type A", "type B", "type C", "type D"}
    assert set(labels["os_event"]) == {0, 1}
    assert labels["os_days"].min() >= 1
    declared = yaml.safe_load((tmp_path / "cohort.yaml").read_text())["tasks"]
    assert declared["mutated"] == "binary"
    assert declared["os"] == {"kind": "survival", "time": "os_days", "event": "os_event", "unit": "days"}


def test_the_truth_tells_the_optimum_the_shares_and_the_censored(tmp_path: Path) -> None:
    write_cohort(simulate(small(), 0), tmp_path)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert list(truth["prevalence"]) == ["mutated"]
    assert list(truth["oracle_auc"]["carrier"]) == ["mutated", "macro"]
    assert [facts["metric"] for facts in truth["optimum"].values()] == [
        "macro_auroc", "quadratic_kappa", "pearson", "c_index",
    ]  # fmt: skip
    assert sum(truth["optimum"]["subtype"]["shares"].values()) == pytest.approx(1, abs=1e-5)
    events = pd.read_csv(tmp_path / "labels.csv")["os_event"]
    assert truth["optimum"]["os"]["censored"] == pytest.approx(1 - events.mean(), abs=1e-6)


def test_best_answers_reach_the_optimum_in_a_large_cohort() -> None:
    for known in large().optima.values():
        assert known.here == pytest.approx(known.best, abs=0.015)


def test_levels_of_all_tasks_are_independent_and_slides_of_a_patient_agree() -> None:
    simulation = large()
    correlation = np.corrcoef(simulation.carriers.T) - np.eye(5)
    assert np.abs(correlation).max() < 0.06
    shown = pd.DataFrame(simulation.carriers).groupby(simulation.labels.slides["patient_id"].to_numpy())
    assert (shown.nunique() == 1).all(axis=None)


def test_slides_lie_where_their_class_and_level_put_them() -> None:
    """Mean patches of diffuse signals, of many patches so that noise averages out."""
    simulation = simulate(small(("signals", "diffuse"), ("tumour", 0), ("patient_sd", 0), ("patches", 256)), 0)
    expected = np.zeros((60, 32))
    for task, of_level in enumerate(simulation.directions.tasks):
        shown = simulation.carriers[:, task]
        expected += 4.0 * of_level[shown] * (shown > 0)[:, None]
    means = np.stack([simulation.slide(index)[1].features.astype(float).mean(axis=0) for index in range(60)])
    for mean, place in zip(means, np.tanh(expected / 3), strict=True):
        np.testing.assert_allclose(mean, place, atol=0.15)


def test_levels_have_their_share_of_a_direction_and_every_class_its_own() -> None:
    _, subtype, grade, _, _ = simulate(small(), 0).directions.tasks
    np.testing.assert_allclose(np.linalg.norm(grade, axis=1), [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(np.linalg.norm(subtype, axis=1), 1)
    assert np.abs(subtype[1:] @ subtype[1:].T - np.eye(3)).max() < 0.6


def test_a_slide_of_the_lowest_level_has_no_marked_patch() -> None:
    simulation = simulate(small(), 0)
    for index in range(20):
        marked = simulation.slide(index)[1].truth.any(axis=0)
        np.testing.assert_array_equal(marked, simulation.carriers[index] > 0)


def test_a_design_of_binary_tasks_is_written_down_as_before_there_were_kinds(tmp_path: Path) -> None:
    write_cohort(simulate(make_design("witness", [("slides", 12), ("patches", 16)]), 0), tmp_path)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert not set(OF_OTHER_KINDS) & set(truth["design"])
    assert "optimum" not in truth
    assert "tasks" not in yaml.safe_load((tmp_path / "cohort.yaml").read_text())


def test_a_binary_task_has_the_same_carriers_whatever_the_kind_of_others() -> None:
    """The copula is drawn for all tasks, so another kind beside it does not move its labels."""
    of = [simulate(small(("kinds", kinds)), 0).labels.slides["mutated"] for kinds in (list(KINDS), "binary")]
    pd.testing.assert_series_equal(*of)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([("kinds", "ordinl")], "Did you mean 'ordinal'"),
        ([("kinds", ["binary", "ordinal"])], "kinds holds 2 values for 5 tasks"),
        ([("classes", 2)], "classes is"),
        ([("classes", 27)], "classes is"),
        ([("classes", [3, 4])], "classes holds 2 values for 5 tasks"),
        ([("score_noise", -1)], "score_noise is"),
        ([("score_noise", float("inf"))], "score_noise is"),
        ([("hazard_ratio", 0)], "hazard_ratio is"),
        ([("censored", 0.99)], "censored is"),
        ([("signals", "layout")], "signals holds a layout"),
        ([("tasks", ["os_days", "b", "c", "d", "os"])], "tasks is .*'os_days'"),
    ],
)
def test_a_setting_that_makes_no_labels_is_named(settings: list[tuple[str, object]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        simulate(small(*settings), 0)


def test_a_given_table_has_binary_tasks_only(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("case_id,slide_id,X\na,s1,1\nb,s2,0\n")
    with pytest.raises(UsageError, match=r"kinds is .* --labels takes binary tasks only"):
        simulate(small(("slides", 0)), 0, tmp_path / "labels.csv")


def test_the_command_makes_a_cohort_of_every_kind_that_check_and_run_take(
    milbench_here: Milbench, tmp_path: Path
) -> None:
    made = milbench_here("data", "simulate", "kinds", "--out", "toy", "--slides", "80", "--set", "patches=16")
    assert made.returncode == 0, made.stderr
    for words in ("best possible", "quadratic kappa", "c-index", "positive"):
        assert words in made.stdout
    check = milbench_here("data", "check", "toy")
    assert check.returncode == 0, check.stdout + check.stderr
    run = milbench_here("run", "--cohort", "toy", "--models", "mmoe_amil", "--folds", "0", "--workers", "1", *FAST)
    assert run.returncode == 0, run.stdout + run.stderr
