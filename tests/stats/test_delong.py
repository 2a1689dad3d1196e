"""DeLong against closed forms and the definition with its m × n comparisons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from milbench.metrics import macro_auroc, per_class_auroc
from milbench.stats.delong import delong, delong_interval, delong_p, difference_p, macro_delong
from milbench.stats.ensemble import ensemble
from milbench.stats.grid import TaskScores


def by_definition(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Structural components from every pair, as DeLong et al. (1988) write them."""
    kernels = []
    for row in scores:
        x, y = row[targets == 1], row[targets == 0]
        kernels.append([[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x])
    kernel = np.array(kernels)  # [M, m, n]
    v10, v01 = kernel.mean(axis=2), kernel.mean(axis=1)
    theta = kernel.mean(axis=(1, 2))
    s10 = (v10 - theta[:, None]) @ (v10 - theta[:, None]).T / (v10.shape[1] - 1)
    s01 = (v01 - theta[:, None]) @ (v01 - theta[:, None]).T / (v01.shape[1] - 1)
    return theta, s10 / v10.shape[1] + s01 / v01.shape[1]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 15), st.integers(2, 15), st.integers(1, 20))
def test_midranks_give_what_the_definition_gives_with_ties(seed: int, m: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    targets, scores = np.r_[np.ones(m), np.zeros(n)], rng.integers(0, levels, (3, m + n)).astype(float)
    aurocs, covariance = by_definition(targets, scores)
    result = delong(targets, scores)
    np.testing.assert_allclose(result.aurocs, aurocs, atol=1e-12)
    np.testing.assert_allclose(result.covariance, covariance, atol=1e-12)
    assert result.aurocs[0] == pytest.approx(roc_auc_score(targets, scores[0]))


@settings(deadline=None)
@given(st.integers(1, 19), st.integers(1, 29))
def test_a_yes_or_no_score_has_the_variance_of_two_shares(found: int, cleared: int) -> None:
    m, n = 20, 30
    targets = np.r_[np.ones(m), np.zeros(n)]
    scores = np.r_[np.arange(m) < found, np.arange(n) >= cleared].astype(float)[None]
    p, q = found / m, cleared / n
    result = delong(targets, scores)
    assert result.aurocs[0] == pytest.approx((p + q) / 2)
    assert result.covariance[0, 0] == pytest.approx(p * (1 - p) / (4 * (m - 1)) + q * (1 - q) / (4 * (n - 1)))


def test_the_interval_is_symmetric_on_the_logit_scale_and_stays_inside() -> None:
    low, high = delong_interval(0.9, 0.01)
    reach = norm.ppf(0.975) * 0.1 / 0.09
    assert (low, high) == pytest.approx((expit(np.log(9) - reach), expit(np.log(9) + reach)))
    assert delong_interval(1.0, 0.0) == (1, 1)
    assert np.isnan(delong_interval(np.nan, np.nan)).all()


def test_a_model_against_itself_has_p_one_and_against_a_worse_one_a_small_p() -> None:
    rng = np.random.default_rng(0)
    targets = np.r_[np.ones(60), np.zeros(90)]
    good, bad = targets * 2 + rng.standard_normal(150), rng.standard_normal(150)
    result = delong(targets, np.array([good, good, bad]))
    assert delong_p(result, 0, 1) == 1
    assert delong_p(result, 0, 2) < 1e-4
    z = (result.aurocs[0] - result.aurocs[2]) / np.sqrt(
        result.covariance[0, 0] + result.covariance[2, 2] - 2 * result.covariance[0, 2]
    )
    assert delong_p(result, 0, 2) == pytest.approx(2 * norm.sf(abs(z)))


def test_a_difference_without_variance_has_no_p() -> None:
    targets = np.array([1.0, 1, 0, 0])
    assert np.isnan(delong_p(delong(targets, np.array([targets, -targets])), 0, 1))


def test_a_class_of_one_patient_or_a_score_that_is_nan_gives_nan() -> None:
    assert np.isnan(delong(np.array([1.0, 0, 0]), np.ones((1, 3))).aurocs).all()
    result = delong(np.array([1.0, 1, 0, 0]), np.array([[1.0, 2, 0, 0], [np.nan] * 4]))
    assert result.aurocs[0] == 1
    assert np.isnan(result.aurocs[1])


def test_the_ensemble_is_the_mean_logit_of_a_patients_slides_over_folds_and_seeds() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 3, 2, 4))
    patients, targets = np.array([0, 0, 2, 3]), np.array([0.0, 1, 0, 1])
    task = TaskScores(patients, targets, expit(logits), np.ones((3, 4), dtype=bool), 5)
    labels, scores = ensemble(task)
    by_slide = logits.mean(axis=(1, 2))
    assert labels.tolist() == [1, 0, 1]
    np.testing.assert_allclose(scores, np.stack([by_slide[:, :2].mean(axis=1), *by_slide[:, 2:].T], axis=1))


def test_a_certain_probability_has_a_finite_logit() -> None:
    task = TaskScores(np.arange(2), np.array([0.0, 1]), np.array([[[[0.0, 1.0]]]]), np.ones((1, 2), bool), 2)
    assert np.isfinite(ensemble(task)[1]).all()


def test_there_is_no_ensemble_where_folds_test_different_slides() -> None:
    tested = np.array([[True, False], [False, True]])
    task = TaskScores(np.arange(2), np.array([0.0, 1]), np.full((1, 2, 1, 2), 0.5), tested, 2)
    assert np.isnan(ensemble(task)[1]).all()


def three_classes(seed: int, n: int, models: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.r_[0.0, 0, 1, 1, 2, 2, rng.integers(0, 3, n)]
    return labels, np.round(rng.random((models, n + 6, 3)) + 0.5 * (labels[:, None] == np.arange(3)), 1)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 30))
def test_of_two_classes_macro_delong_is_delong(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    targets, scores = np.r_[0.0, 0, 1, 1, rng.integers(0, 2, n)], np.round(rng.random((2, n + 4)), 1)
    binary, macro = delong(targets, scores), macro_delong(targets, np.stack([1 - scores, scores], axis=-1))
    np.testing.assert_allclose(macro.aurocs, binary.aurocs, atol=1e-12)
    np.testing.assert_allclose(macro.covariance, binary.covariance, atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 30))
def test_macro_delong_is_the_mean_over_classes_and_of_one_column_delong(seed: int, n: int) -> None:
    labels, p = three_classes(seed, n)
    result = macro_delong(labels, p)
    assert result.aurocs == pytest.approx([macro_auroc(labels, row) for row in p])
    alone = macro_delong((labels == 1).astype(float), np.stack([-p[:, :, 1], p[:, :, 1]], axis=-1))
    assert alone.aurocs == pytest.approx([per_class_auroc(labels, row)[1] for row in p])
    np.testing.assert_allclose(alone.covariance, delong((labels == 1).astype(float), p[:, :, 1]).covariance, atol=1e-12)


def test_macro_delong_has_the_variance_of_new_patients() -> None:
    rng = np.random.default_rng(5)
    values, variances = [], []
    for _ in range(400):
        labels = rng.choice(3, 90, p=[0.5, 0.3, 0.2]).astype(float)
        logits = rng.normal(size=(90, 3)) + (labels[:, None] == np.arange(3))
        result = macro_delong(labels, logits[None])
        values.append(result.aurocs[0])
        variances.append(result.covariance[0, 0])
    assert np.sqrt(np.mean(variances)) == pytest.approx(np.std(values), rel=0.12)


def test_macro_delong_is_nan_where_a_class_has_fewer_than_two_patients() -> None:
    labels, p = three_classes(0, 0)
    assert np.isnan(macro_delong(labels[:5], p[:, :5]).aurocs).all()
    assert np.isnan(macro_delong(labels[:5], p[:, :5]).covariance).all()
    p[0, 3, 1] = np.nan
    result = macro_delong(labels, p)
    assert np.isnan(result.aurocs[0])
    assert np.isfinite(result.aurocs[1])
    assert np.isfinite(result.covariance[1, 1])


def test_macro_aurocs_are_compared_as_aurocs_are() -> None:
    labels, p = three_classes(1, 60, models=3)
    p[1], p[2] = p[0], np.random.default_rng(0).random(p[2].shape)
    result = macro_delong(labels, p)
    assert delong_p(result, 0, 1) == 1
    assert delong_p(result, 0, 2) < 0.01
    assert delong_p(result, 0, 2) == difference_p(*result, 0, 2)
