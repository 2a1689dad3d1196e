"""metrics against scikit-learn, and what happens where a metric is undefined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score

from milbench.metrics import (
    auroc,
    auroc_per_task,
    average_precision,
    balanced_accuracy,
    brier,
    expected_calibration_error,
    f1,
    mean_of_defined,
    sensitivity,
    specificity,
    threshold_at_sensitivity,
    threshold_at_specificity,
    youden_threshold,
)

NEED_TWO_CLASSES = (auroc, average_precision, youden_threshold)
AT_A_THRESHOLD = (balanced_accuracy, f1, sensitivity, specificity)


def both_classes(seed: int, n: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.r_[0.0, 1.0, rng.integers(0, 2, n - 2)], rng.integers(0, levels + 1, n) / levels


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 5))
def test_auroc_equals_scikit_learns_with_ties(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    targets = np.r_[0.0, 1.0, rng.integers(0, 2, n - 2)]
    scores = rng.integers(0, levels, n) / levels
    assert auroc(targets, scores) == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)


def test_unknown_labels_are_left_out() -> None:
    targets, scores = np.array([0, 1, np.nan, 1.0]), np.array([0.1, 0.9, 0.0, 0.05])
    assert auroc(targets, scores) == roc_auc_score([0, 1, 1], [0.1, 0.9, 0.05])


def test_a_score_that_is_nan_gives_nan_and_no_rank() -> None:
    assert np.isnan(auroc(np.array([0.0, 1.0, 1.0]), np.array([0.1, np.nan, 0.9])))


@pytest.mark.parametrize("targets", [[1, 1], [0, 0], [np.nan, np.nan], [1, np.nan]])
def test_one_class_gives_nan_and_not_one_half(targets: list[float]) -> None:
    assert np.isnan(auroc(np.array(targets, dtype=float), np.array([0.2, 0.7])))


def test_the_mean_leaves_undefined_tasks_out_and_is_nan_without_any() -> None:
    values = auroc_per_task(np.array([[0, 1.0], [1, 1]]), np.array([[0.1, 0.5], [0.9, 0.6]]))
    assert values[0] == 1.0
    assert np.isnan(values[1])
    assert mean_of_defined(values) == 1.0
    assert np.isnan(mean_of_defined(np.array([np.nan])))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 12))
def test_average_precision_and_brier_equal_scikit_learns_with_ties(seed: int, n: int, levels: int) -> None:
    targets, scores = both_classes(seed, n, levels)
    assert average_precision(targets, scores) == pytest.approx(sk.average_precision_score(targets, scores), abs=1e-12)
    assert brier(targets, scores) == pytest.approx(sk.brier_score_loss(targets, scores), abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 12), st.floats(-0.1, 1.1))
def test_what_a_threshold_makes_equals_scikit_learns(seed: int, n: int, levels: int, threshold: float) -> None:
    targets, scores = both_classes(seed, n, levels)
    called = scores >= threshold
    expected = {
        balanced_accuracy: sk.balanced_accuracy_score(targets, called),
        f1: sk.f1_score(targets, called, zero_division=0),
        sensitivity: sk.recall_score(targets, called),
        specificity: sk.recall_score(targets, called, pos_label=0),
    }
    for metric, value in expected.items():
        assert metric(targets, scores, threshold) == pytest.approx(value, abs=1e-12), metric.__name__


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 12))
def test_youdens_threshold_is_the_best_point_of_scikit_learns_curve(seed: int, n: int, levels: int) -> None:
    targets, scores = both_classes(seed, n, levels)
    false, true, thresholds = sk.roc_curve(targets, scores, drop_intermediate=False)
    gain = np.round((true - false)[1:], 12)  # without the point that calls nobody positive
    assert youden_threshold(targets, scores) == thresholds[1:][np.argmax(gain)]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_the_calibration_error_equals_one_built_on_scikit_learns_curve(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    targets, scores = rng.integers(0, 2, n).astype(float), rng.random(n)
    share, confidence = calibration_curve(targets, scores, n_bins=10)
    counts = np.histogram(scores, bins=10, range=(0, 1))[0]
    expected = (counts[counts > 0] * np.abs(share - confidence)).sum() / n
    assert expected_calibration_error(targets, scores) == pytest.approx(expected, abs=1e-12)


def test_probabilities_of_zero_and_one_have_a_bin() -> None:
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


@pytest.mark.parametrize("targets", [[1, 1], [0, 0], [np.nan, np.nan], [1, np.nan]])
def test_no_metric_makes_up_a_value_for_one_class(targets: list[float]) -> None:
    labels, scores = np.array(targets, dtype=float), np.array([0.2, 0.7])
    assert all(np.isnan(metric(labels, scores)) for metric in NEED_TWO_CLASSES)
    assert np.isnan(balanced_accuracy(labels, scores, 0.5))
    assert np.isnan(f1(labels, scores, 0.5))


@pytest.mark.parametrize("n_positive", [1, 10, 50, 99])
@pytest.mark.parametrize("score", [0.1, 0.9])
def test_one_answer_for_everybody_is_no_better_than_chance(n_positive: int, score: float) -> None:
    labels, scores = (np.arange(100) < n_positive).astype(float), np.full(100, score)
    assert auroc(labels, scores) == balanced_accuracy(labels, scores, 0.5) == 0.5
    assert average_precision(labels, scores) == pytest.approx(n_positive / 100)
    if score < 0.5:
        assert f1(labels, scores, 0.5) == 0


def test_every_metric_leaves_unknown_labels_out_and_is_nan_without_any() -> None:
    targets, scores = np.array([0, 1, np.nan, 1, 0]), np.array([0.1, 0.9, 0.0, 0.05, 0.4])
    known = ~np.isnan(targets)
    for metric in (*NEED_TWO_CLASSES, brier, expected_calibration_error):
        assert metric(targets, scores) == metric(targets[known], scores[known])
        assert np.isnan(metric(targets[~known], scores[~known]))
    for metric in AT_A_THRESHOLD:
        assert metric(targets, scores, 0.3) == metric(targets[known], scores[known], 0.3)
        assert np.isnan(metric(targets[~known], scores[~known], 0.3))


@pytest.mark.parametrize("metric", AT_A_THRESHOLD)
def test_without_a_threshold_nothing_is_called(metric: object) -> None:
    assert np.isnan(metric(np.array([0.0, 1.0]), np.array([0.2, 0.7]), float("nan")))


def test_a_threshold_at_a_fixed_specificity_is_the_lowest_that_reaches_it() -> None:
    targets = np.array([0.0] * 10 + [1.0] * 5)
    scores = np.array([0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.15, 0.85, 0.95, 0.99, 0.99])
    threshold = threshold_at_specificity(targets, scores, 0.9)
    assert threshold == 0.85
    assert specificity(targets, scores, threshold) == 0.9
    assert specificity(targets, scores, 0.8) == 0.8, "the next lower score"
    assert sensitivity(targets, scores, threshold) == 0.8


def test_a_threshold_at_a_fixed_sensitivity_is_the_highest_that_reaches_it() -> None:
    targets = np.array([0.0] * 5 + [1.0] * 10)
    scores = np.concatenate([np.linspace(0, 0.8, 5), np.linspace(0.1, 1.0, 10)])
    threshold = threshold_at_sensitivity(targets, scores, 0.9)
    assert threshold == pytest.approx(0.2)
    assert sensitivity(targets, scores, threshold) == pytest.approx(0.9)


def test_one_class_or_equal_scores_give_no_useful_threshold() -> None:
    assert np.isnan(threshold_at_specificity(np.ones(3), np.arange(3.0), 0.9))
    assert np.isnan(threshold_at_sensitivity(np.zeros(3), np.arange(3.0), 0.9))
    assert threshold_at_specificity(np.array([0.0, 1.0]), np.array([0.5, 0.5]), 0.9) == np.inf


@pytest.mark.parametrize("known", [True, False])
def test_metrics_are_floats_of_python_and_refuse_other_lengths(known: bool) -> None:
    y, p = np.array([0, 1.0, 1, 0 if known else np.nan]), np.array([0.2, 0.6, 0.4, 0.3])
    for metric in (sensitivity, specificity, balanced_accuracy, f1):
        assert type(metric(y, p, 0.5)) is float
        assert type(metric(y, p, float("nan"))) is float
        for other in (p[:1], p[:3]):
            with pytest.raises(IndexError):
                metric(y, other, 0.5)
