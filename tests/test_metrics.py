"""metrics against scikit-learn, and what happens where a metric is undefined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from milbench.metrics import auroc, auroc_per_task, mean_of_defined


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 5))
def test_auroc_equals_scikit_learns_with_ties(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    targets = np.r_[0.0, 1.0, rng.integers(0, 2, n - 2)]
    scores = rng.integers(0, levels, n) / levels
    assert auroc(targets, scores) == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)


def test_unknown_labels_are_left_out() -> None:
    targets, scores = np.array([0, 1, np.nan, 1.0]), np.array([0.1, 0.9, 0.0, 0.05])
    assert auroc(targets, scores) == roc_auc_score([0, 1, 1], [0.1, 0.9, 0.05])


@pytest.mark.parametrize("targets", [[1, 1], [0, 0], [np.nan, np.nan], [1, np.nan]])
def test_one_class_gives_nan_and_not_one_half(targets: list[float]) -> None:
    assert np.isnan(auroc(np.array(targets, dtype=float), np.array([0.2, 0.7])))


def test_the_mean_leaves_undefined_tasks_out_and_is_nan_without_any() -> None:
    values = auroc_per_task(np.array([[0, 1.0], [1, 1]]), np.array([[0.1, 0.5], [0.9, 0.6]]))
    assert values[0] == 1.0
    assert np.isnan(values[1])
    assert mean_of_defined(values) == 1.0
    assert np.isnan(mean_of_defined(np.array([np.nan])))
