"""The crossed bootstrap against scikit-learn on resampled rows, and against simulated truth."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from statistics_coverage import BASE, judge

from milbench.stats import auroc_draws
from milbench.stats.across import weighted_mean
from milbench.stats.auroc_draws import MOST_FOLDS
from milbench.stats.crossed import (
    crossed_draws,
    draw_counts,
    draw_within_classes,
    fold_scores,
    generator,
    interval,
    mean_over_folds,
    mean_scores,
    p_value,
    sides,
    superiority,
)
from milbench.stats.grid import TaskScores


def task_scores(
    seed: int, *, levels: int = 5, shared: bool = True, n_seeds: int = 2, n_patients: int = 20
) -> TaskScores:
    """Three models, four folds, ties; patients with one to three slides whose labels may contradict each other."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients))
    targets = (rng.random(len(patients)) < 0.4).astype(float)
    scores = rng.integers(0, levels, (3, 4, n_seeds, len(patients))) / levels
    tested = np.ones((4, len(patients)), dtype=bool)
    if not shared:
        tested = patients % 4 == np.arange(4)[:, None]
        scores = np.where(tested[None, :, None], scores, np.nan)
    return TaskScores(patients, targets, scores, tested, n_patients)


def by_rows(task: TaskScores, weights: np.ndarray, model: int, fold: int) -> float:
    """The same number the slow way: repeat every slide as often as its patient was drawn."""
    copies = weights[task.patients] * task.tested[fold]
    targets = np.repeat(task.targets, copies)
    if len(set(targets)) < 2:
        return float("nan")
    return float(np.mean([roc_auc_score(targets, np.repeat(s, copies)) for s in task.scores[model, fold]]))


@pytest.mark.parametrize("shared", [True, False])
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_every_draw_equals_scikit_learn_on_the_rows_drawn(shared: bool, seed: int) -> None:
    task = task_scores(seed, shared=shared)
    weights = draw_within_classes(np.random.default_rng(seed), task.patient_label, 3)
    aurocs = fold_scores(task, weights)
    for draw, model, fold in np.ndindex(aurocs.shape):
        expected = by_rows(task, weights[draw], model, fold)
        assert aurocs[draw, model, fold] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_without_resampling_it_is_the_auroc_of_all_slides() -> None:
    task = task_scores(1)
    once = fold_scores(task, np.ones((1, task.n_patients), dtype=int))[0]
    assert once[2, 3] == pytest.approx(np.mean([roc_auc_score(task.targets, s) for s in task.scores[2, 3]]))


def test_a_majority_of_positives_gives_the_same_numbers() -> None:
    task = task_scores(2)
    flipped = TaskScores(task.patients, 1 - task.targets, -task.scores, task.tested, task.n_patients)
    weights = draw_counts(np.random.default_rng(0), task.n_patients, 50)
    np.testing.assert_allclose(fold_scores(task, weights), fold_scores(flipped, weights), atol=1e-12)


def test_small_steps_give_the_same_numbers_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    task, weights = task_scores(3), draw_counts(np.random.default_rng(0), 20, 50)
    whole = fold_scores(task, weights)
    monkeypatch.setattr(auroc_draws, "BLOCK_BYTES", 1)
    monkeypatch.setattr(auroc_draws, "FEWEST_DRAWS_AT_ONCE", 1)
    np.testing.assert_array_equal(fold_scores(task, weights), whole)


@pytest.mark.parametrize("draws_at_once", [1, 3, 7, 1000])
@pytest.mark.parametrize("block_bytes", [1, 1000, 12_345])
def test_blocks_of_odd_sizes_give_what_a_plain_loop_over_draws_gives(
    monkeypatch: pytest.MonkeyPatch, draws_at_once: int, block_bytes: int
) -> None:
    task, weights = task_scores(3), draw_counts(np.random.default_rng(1), 20, 31)
    monkeypatch.setattr(auroc_draws, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(auroc_draws, "FEWEST_DRAWS_AT_ONCE", draws_at_once)
    np.testing.assert_allclose(fold_scores(task, weights), by_loop(), rtol=0, atol=1e-12)


@cache
def by_loop() -> np.ndarray:
    task, weights = task_scores(3), draw_counts(np.random.default_rng(1), 20, 31)
    found = np.empty((31, 3, 4))
    for draw, model, fold in np.ndindex(found.shape):
        found[draw, model, fold] = by_rows(task, weights[draw], model, fold)
    return found


def test_float32_rounds_nothing_on_a_large_test_set() -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.random((1, 1, 1, 2000)), (np.arange(2000) < 500).astype(float)
    task = TaskScores(np.arange(2000), targets, scores, np.ones((1, 2000), dtype=bool), 2000)
    weights = draw_within_classes(rng, targets, 5)
    for draw, auroc in enumerate(fold_scores(task, weights)[:, 0, 0]):
        assert auroc == pytest.approx(by_rows(task, weights[draw], 0, 0), abs=1e-12)


def test_patients_are_drawn_within_their_class_and_whole() -> None:
    labels = np.r_[np.ones(7), np.zeros(30), np.nan]
    weights = draw_within_classes(np.random.default_rng(0), labels, 200)
    assert (weights[:, :7].sum(axis=1) == 7).all()
    assert (weights[:, 7:37].sum(axis=1) == 30).all()
    assert (weights[:, 37] == 0).all(), "no patient without a label"
    assert draw_counts(np.random.default_rng(0), 5, 20_000).mean(axis=0) == pytest.approx(np.ones(5), abs=0.05)


def test_a_patient_with_contradictory_slides_is_drawn_as_a_positive_and_keeps_its_slides_labels() -> None:
    task = TaskScores(
        np.array([0, 0, 1]), np.array([1.0, 0.0, 0.0]), np.array([[[[0.9, 0.8, 0.1]]]]), np.ones((1, 3), bool), 2
    )
    assert task.patient_label.tolist() == [1, 0]
    assert fold_scores(task, np.array([[1, 0]])).item() == 1, "its own negative slide stays a negative"


def test_folds_without_a_class_are_left_out_of_the_draw() -> None:
    aurocs = np.array([[[0.6, np.nan, 0.9]]])
    assert mean_over_folds(aurocs, np.array([[1, 2, 0]])).item() == pytest.approx(0.6)
    assert mean_over_folds(aurocs, np.array([[1, 0, 2]])).item() == pytest.approx(0.8)
    assert np.isnan(mean_over_folds(aurocs, np.array([[0, 3, 0]])).item())


def test_a_model_that_lacks_a_fold_has_no_number_there_and_disturbs_no_other() -> None:
    task = task_scores(4)
    weights = draw_counts(np.random.default_rng(0), task.n_patients, 20)
    whole = fold_scores(task, weights)
    task.scores[1, 2] = np.nan
    lacking = fold_scores(task, weights)
    assert np.isnan(lacking[:, 1, 2]).all()
    lacking[:, 1, 2] = whole[:, 1, 2]
    np.testing.assert_array_equal(lacking, whole)


def test_a_shared_test_side_is_multiplied_once_and_differing_ones_each() -> None:
    assert [folds for folds, _ in sides(task_scores(0))] == [[0, 1, 2, 3]]
    assert [folds for folds, _ in sides(task_scores(0, shared=False))] == [[0], [1], [2], [3]]


def test_the_same_seed_gives_the_same_draws_and_names_give_others() -> None:
    task = task_scores(5)
    one, again, other = (crossed_draws(task, generator(*key), 100) for key in ((0, "a"), (0, "a"), (0, "b")))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_a_p_value_is_twice_the_smaller_tail_and_never_zero() -> None:
    draws = np.r_[np.full(97, 0.1), np.full(3, -0.1)]
    assert p_value(draws) == pytest.approx(0.06)
    assert p_value(np.ones(99)) == pytest.approx(1 / 100)
    assert p_value(np.zeros(99)) == 1, "two identical models"
    assert np.isnan(p_value(np.array([np.nan])))


def test_the_interval_and_superiority_leave_undefined_draws_out() -> None:
    draws = np.r_[np.arange(1001) / 1000, np.nan]
    assert interval(draws) == pytest.approx((0.025, 0.975))
    assert superiority(np.array([1, 0, -1, np.nan])) == 0.5
    assert np.isnan(interval(np.empty(0))).all()
    assert np.isnan(superiority(np.empty(0)))


def test_on_simulated_truth_it_rejects_at_most_five_percent_where_fold_tests_reject_a_fifth() -> None:
    shares = judge(BASE, difference=0.0, repetitions=500, draws=500)
    assert shares["rejected"] <= 0.05
    assert 0.93 <= shares["covered"] <= 0.98
    assert shares["paired t over folds"] > 0.15


@pytest.mark.slow
@pytest.mark.parametrize("difference", [0.0, 0.05, 0.1])
def test_intervals_hold_a_known_difference_in_93_to_98_percent(difference: float) -> None:
    shares = judge(BASE, difference, repetitions=500, draws=10_000)
    assert 0.93 <= shares["covered"] <= 0.98
    if difference == 0:
        assert shares["rejected"] <= 0.05


# ---- the mean over drawn folds without the scores of each ------------------------------------------

DRAWS = 600


def by_fold(tasks: Sequence[TaskScores], patients: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The mean over tasks inside a fold, then over folds."""
    scores = np.stack([fold_scores(task, patients) for task in tasks])
    known = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        means = np.where(known, scores, 0).sum(axis=0) / known.sum(axis=0)
    return mean_over_folds(means, folds)


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_over_drawn_folds_is_that_of_their_scores(seed: int) -> None:
    task, rng = task_scores(seed), np.random.default_rng(seed)
    patients, folds = draw_within_classes(rng, task.stratum, DRAWS), draw_counts(rng, 4, DRAWS)
    means = mean_scores(task, patients, folds)
    assert means is not None, "four folds are drawn in 35 ways"
    np.testing.assert_allclose(means, by_fold([task], patients, folds), rtol=0, atol=1e-14)


def test_a_draw_without_a_class_has_no_score() -> None:
    task, rng = task_scores(2, n_patients=4), np.random.default_rng(1)
    patients, folds = draw_counts(rng, 4, DRAWS), draw_counts(rng, 4, DRAWS)
    means, expected = mean_scores(task, patients, folds), by_fold([task], patients, folds)
    assert means is not None
    assert np.isnan(expected).any()
    np.testing.assert_allclose(means, expected, rtol=0, atol=1e-14)


def test_a_mean_over_tasks_may_take_folds_first() -> None:
    tasks, rng = [task_scores(2, n_patients=5), task_scores(2, levels=3, n_patients=5)], np.random.default_rng(1)
    patients, folds = draw_counts(rng, 5, DRAWS), draw_counts(rng, 4, DRAWS)
    np.testing.assert_allclose(
        weighted_mean(tasks, patients, folds), by_fold(tasks, patients, folds), rtol=0, atol=1e-14
    )


def test_folds_with_their_own_test_sides_or_missing_trainings_are_scored_one_by_one() -> None:
    rng = np.random.default_rng(0)
    folds, patients = draw_counts(rng, 4, DRAWS), draw_counts(rng, 20, DRAWS)
    assert mean_scores(task_scores(1, shared=False), patients, folds) is None
    task = task_scores(1)
    task.scores[0, 1] = np.nan
    assert mean_scores(task, patients, folds) is None


def test_folds_that_few_draws_share_are_scored_one_by_one() -> None:
    task, rng = task_scores(1), np.random.default_rng(0)
    patients = draw_counts(rng, 20, DRAWS)
    assert mean_scores(task, patients[:10], draw_counts(rng, 4, 10)) is None
    many = TaskScores(
        task.patients, task.targets, np.repeat(task.scores, 3, axis=1), np.repeat(task.tested, 3, axis=0), 20
    )
    assert many.scores.shape[1] > MOST_FOLDS
    assert mean_scores(many, patients, draw_counts(rng, 12, DRAWS)) is None
