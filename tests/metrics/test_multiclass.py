"""Multiclass metrics against recorded scikit-learn, and where a class is absent."""

import numpy as np
import pytest
from endpoint_goldens import EXACT, endpoint_golden, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from milbench.metrics import (
    balanced_accuracy_of_classes,
    confusion,
    macro_auroc,
    macro_f1,
    multiclass_brier,
    multiclass_log_loss,
    one_vs_one_auroc,
    per_class_auroc,
    predicted_class,
)

GOLDEN = {name: case for name, case in endpoint_golden("multiclass")["cases"].items() if "p" in case}
WHOLE = [name for name, case in GOLDEN.items() if len(set(case["y"])) == len(case["p"][0]) > 2]
OF_PROBABILITIES = (macro_auroc, one_vs_one_auroc, multiclass_brier, multiclass_log_loss)
OF_CALLS = (balanced_accuracy_of_classes, macro_f1)


def near(value: float) -> object:
    return pytest.approx(value, abs=EXACT, rel=EXACT, nan_ok=True)


def case_of(name: str) -> tuple[dict, np.ndarray, np.ndarray]:
    return GOLDEN[name], floats(GOLDEN[name]["y"]), floats(GOLDEN[name]["p"])


def drawn(seed: int, n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(n_classes), rng.integers(0, n_classes, n)].astype(float)
    return labels, np.round(rng.dirichlet(np.ones(n_classes), len(labels)), 2)


@pytest.mark.parametrize("name", WHOLE)
def test_every_metric_equals_the_recorded_one(name: str) -> None:
    case, y, p = case_of(name)
    n, called = p.shape[1], predicted_class(p)
    assert per_class_auroc(y, p) == near(case["sklearn ovr none"])
    assert macro_auroc(y, p) == near(case["sklearn ovr macro"])
    assert one_vs_one_auroc(y, p) == near(case["sklearn ovo macro"])
    assert balanced_accuracy_of_classes(y, called, n) == near(case["balanced accuracy"])
    assert macro_f1(y, called, n) == near(case["macro F1 labels"])


@pytest.mark.parametrize("name", GOLDEN)
def test_losses_and_confusion_equal_the_recorded_ones_even_where_classes_are_absent(name: str) -> None:
    case, y, p = case_of(name)
    assert multiclass_log_loss(y, p) == near(case["log loss"])
    assert multiclass_brier(y, p) == near(case["Brier, sum over classes"])
    assert confusion(y, predicted_class(p), p.shape[1]).tolist() == case["confusion"]
    assert macro_f1(y, predicted_class(p), p.shape[1]) == near(case["macro F1 labels"])


@pytest.mark.parametrize("name", ["class 2 absent of 3", "one class only"])
def test_an_absent_class_makes_the_means_nan_where_others_leave_it_out(name: str) -> None:
    case, y, p = case_of(name)
    assert per_class_auroc(y, p) == near(case["sklearn ovr none"])
    assert np.isnan(case["sklearn ovr macro"])
    assert np.isnan(macro_auroc(y, p))
    assert np.isnan(one_vs_one_auroc(y, p)), "scikit-learn averages the pairs that exist"
    assert np.isnan(balanced_accuracy_of_classes(y, predicted_class(p), 3)), "scikit-learn averages those present"


def test_rows_that_do_not_sum_to_one_are_ranked_all_the_same() -> None:
    case, y, p = case_of("3 classes 60/30/10")
    assert macro_auroc(y, 7 * p) == near(case["sklearn ovr macro"])


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 40), st.integers(3, 6))
def test_with_weights_every_metric_equals_scikit_learns(seed: int, n: int, n_classes: int) -> None:
    y, p = drawn(seed, n, n_classes)
    p = (p + 0.01) / (p + 0.01).sum(axis=1, keepdims=True)
    w, called = np.random.default_rng(seed).random(len(y)) + 0.1, predicted_class(p)
    assert macro_auroc(y, p, w) == near(sk.roc_auc_score(y, p, multi_class="ovr", sample_weight=w))
    assert multiclass_log_loss(y, p, w) == near(sk.log_loss(y, p, sample_weight=w))
    assert balanced_accuracy_of_classes(y, called, n_classes, w) == near(
        sk.balanced_accuracy_score(y, called, sample_weight=w)
    )
    assert macro_f1(y, called, n_classes, w) == near(
        sk.f1_score(y, called, labels=range(n_classes), average="macro", zero_division=0, sample_weight=w)
    )


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 30))
def test_a_weight_of_two_equals_the_row_twice_and_of_none_no_row(seed: int, n: int) -> None:
    y, p = drawn(seed, n, 3)
    w = np.random.default_rng(seed).integers(0, 3, len(y))
    y_twice, p_twice = np.repeat(y, w), np.repeat(p, w, axis=0)
    for metric in OF_PROBABILITIES:
        assert metric(y, p, w.astype(float)) == near(metric(y_twice, p_twice)), metric.__name__
    for metric in OF_CALLS:
        assert metric(y, predicted_class(p), 3, w) == near(metric(y_twice, predicted_class(p_twice), 3)), (
            metric.__name__
        )


def test_unknown_labels_are_left_out_and_a_prediction_that_is_nan_gives_nan() -> None:
    y, p = drawn(1, 20, 3)
    with_unknown, beside = np.append(y, np.nan), np.vstack([p, np.full(3, np.nan)])
    broken = np.where(np.arange(len(y))[:, None] == 4, np.nan, p)
    for metric in OF_PROBABILITIES:
        assert metric(with_unknown, beside) == metric(y, p), metric.__name__
        assert np.isnan(metric(y, broken)), metric.__name__
        assert np.isnan(metric(np.full(3, np.nan), np.ones((3, 3)))), metric.__name__
    for metric in OF_CALLS:
        assert metric(with_unknown, predicted_class(beside), 3) == metric(y, predicted_class(p), 3)
        assert np.isnan(metric(y, predicted_class(broken), 3)), metric.__name__
        assert np.isnan(metric(np.full(3, np.nan), np.ones(3), 3)), metric.__name__


def test_a_call_outside_of_the_classes_has_no_score() -> None:
    assert np.isnan(confusion(np.array([0.0, 1.0]), np.array([0.0, 3.0]), 3)).all()
    assert np.isnan(macro_f1(np.array([0.0, 1.0]), np.array([0.0, 0.5]), 3))
