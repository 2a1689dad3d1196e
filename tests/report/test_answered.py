"""What models answered: means over trainings and slides, and which panels a figure has."""

import numpy as np
import pytest
from kinds_for_tests import make_run_of_kinds
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from milbench.report.answered import Answered, answers_by_patient, answers_by_slide, answers_of_trainings, panels
from milbench.report.calibration import (
    calls_that_are_right,
    class_points,
    event_free_at_an_edge,
    means_of_groups,
    points_of,
    shares_in_bins,
)
from milbench.report.confusion import calls, confusion
from milbench.report.kinds import name_of
from milbench.report.panel_grid import grid_places
from milbench.store.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run_of_kinds(tmp_path_factory.mktemp("runs") / "kinds", folds=(0, 1))


def test_a_slide_has_the_mean_of_its_answers_over_trainings(run: Run) -> None:
    tested = answers_by_slide(run.trials(), "multiclass")["subtype", "m4"]
    frames = [trial.answers() for trial in run.trials() if trial.info["model"] == "m4"]
    rows = [frame.query("role == 'test' and task == 'subtype' and target == target") for frame in frames]
    for place, answer in enumerate(tested.fitted.answers):
        mean = np.mean([table.loc[table["answer"] == answer, "prediction"] for table in rows], axis=0)
        np.testing.assert_allclose(tested.answers[:, place], mean)
    assert len(tested.targets) == len(set(rows[0]["slide_id"]))


def test_a_patient_has_the_mean_over_the_slides(run: Run) -> None:
    trial = run.trials()[0]
    tested = answers_by_patient(trial, "survival")["OS"]
    risks = trial.answers().query("role == 'test' and answer == 'risk' and target == target")
    mean = risks.groupby("patient_id")["prediction"].mean()
    assert len(tested.patients) == len(set(tested.patients)) == len(mean)
    np.testing.assert_allclose(tested.answers[:, 0], mean[list(tested.patients)])


def test_the_confusion_matrix_is_that_of_scikit_learn(run: Run) -> None:
    for kind, task in (("multiclass", "subtype"), ("ordinal", "grade")):
        tested = answers_by_slide(run.trials(), kind)[task, "amil"]  # type: ignore[arg-type]
        n_classes = len(tested.fitted.endpoint.classes)
        expected = confusion_matrix(tested.targets, calls(tested), labels=range(n_classes))
        np.testing.assert_array_equal(confusion(tested), expected)


def test_calibration_of_calls_is_over_all_slides(run: Run) -> None:
    tested = answers_by_slide(run.trials(), "multiclass")["subtype", "m4"]
    points = calls_that_are_right(tested)
    assert points[:, 2].sum() == len(tested.targets)
    right = (calls(tested) == tested.targets).mean()
    assert (points[:, 1] * points[:, 2]).sum() / len(tested.targets) == pytest.approx(right)
    assert (np.diff(points[:, 0]) > 0).all()


def test_shares_in_bins_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(500)
    came_true = rng.random(500) < probability
    shares, means = calibration_curve(came_true, probability, n_bins=10)
    points = shares_in_bins(probability, came_true)
    np.testing.assert_allclose(points[:, 0], means)
    np.testing.assert_allclose(points[:, 1], shares)
    assert points[:, 2].sum() == 500


def test_a_slide_counts_once_per_training_whose_answer_it_keeps(run: Run) -> None:
    mean = answers_by_slide(run.trials(), "regression")["HRD", "m4"]
    every = answers_of_trainings(run.trials(), "regression")["HRD", "m4"]
    assert len(every.targets) == 2 * len(mean.targets), "two folds test the same slides"
    assert every.answers.mean() == pytest.approx(mean.answers.mean())
    assert every.answers.std() > mean.answers.std()


def test_classes_and_positives_have_points_of_their_own(run: Run) -> None:
    tested = answers_of_trainings(run.trials(), "multiclass")
    points = class_points(tested)
    one = tested["subtype", "m4"]
    for place, name in enumerate(one.fitted.endpoint.classes):
        shares = points[f"subtype: {name}", "m4"]
        assert shares[:, 1] @ shares[:, 2] == pytest.approx((one.targets == place).sum())
    positive = answers_of_trainings(run.trials(), "binary")
    for panel, shares in points_of("binary", positive).items():
        assert shares[:, 1] @ shares[:, 2] == pytest.approx(positive[panel].targets.sum())
    assert positive


def test_groups_of_predictions_are_of_equal_size_and_hold_the_mean_label(run: Run) -> None:
    tested = answers_by_slide(run.trials(), "regression")["HRD", "m4"]
    points = means_of_groups(tested)
    assert np.ptp(points[:, 2]) <= 1
    assert (points[:, 1] * points[:, 2]).sum() == pytest.approx(tested.targets.sum())


def test_observed_survival_at_an_edge_is_the_share_without_event_where_nobody_is_censored(run: Run) -> None:
    trial = next(trial for trial in run.trials() if trial.info["model"] == "m4")
    tested = answers_by_patient(trial, "survival")["OS"]
    tested = tested._replace(events=np.ones(len(tested.targets)))
    points = event_free_at_an_edge(tested)
    edge = tested.fitted.edges[len(tested.fitted.edges) // 2]
    assert (points[:, 1] * points[:, 2]).sum() == pytest.approx((tested.targets > edge).sum())


def test_no_patient_makes_no_point(run: Run) -> None:
    tested = answers_by_slide(run.trials(), "regression")["HRD", "m4"]
    empty = Answered(tested.fitted, *(values[:0] for values in tested[1:]))
    assert means_of_groups(empty).shape == (0, 3)


def test_too_many_panels_leave_the_best_model_of_each_task() -> None:
    models = [f"m{number}" for number in range(9)]
    scores = {("a", "m3"): 0.9, ("a", "m4"): 0.8, ("b", "m1"): float("nan"), ("b", "m8"): 0.1}
    assert panels(["a", "b"], models, scores) == [(task, model) for task in "ab" for model in models]
    assert panels(["a", "b", "c"], models, scores) == [("a", "m3"), ("b", "m8"), ("c", "m0")]
    assert panels(["a"], models, scores, n_trainings=2) == [("a", model) for model in models]
    assert panels(["a", "b"], models, scores, n_trainings=3) == [("a", "m3"), ("b", "m8")]
    assert panels(["a", "b"], models, scores, n_trainings=20) == [("a", "m3")]


def test_a_task_begins_a_row_and_tasks_with_one_panel_share_it() -> None:
    assert grid_places(["a", "a", "b"]) == [(0, 0), (0, 1), (1, 0)]
    assert grid_places(["a", "a", "a"], columns=2) == [(0, 0), (0, 1), (1, 0)]
    assert grid_places(["a", "b", "c"], columns=2) == [(0, 0), (0, 1), (1, 0)]


def test_names_of_binary_tables_stay_and_no_two_are_the_same() -> None:
    assert name_of("table2", "binary") == "table2"
    assert name_of("table2", "survival") == "table2_survival"
    assert name_of("tasks", "survival", "brca", ["brca"]) == "tasks_brca_survival"
    clash = ["brca", "brca_survival"]
    assert name_of("tasks", "binary", "brca_survival", clash) == "tasks_brca_survival"
    assert name_of("tasks", "survival", "brca", clash) == "tasks_brca__survival"
