"""From tasks to cohorts and from cohorts to all, against plain loops and SciPy."""

import numpy as np
import pytest
from scipy.stats import permutation_test

from milbench.stats.across import cohort_draws, overall_draws, sign_flip_p
from milbench.stats.crossed import draw_counts, fold_scores
from milbench.stats.grid import TaskScores


def tasks_of_one_cohort(n_tasks: int, n: int = 40) -> list[TaskScores]:
    rng = np.random.default_rng(0)
    tested = np.ones((3, n), dtype=bool)
    labels = [(rng.random(n) < 0.4).astype(float) for _ in range(n_tasks)]
    return [TaskScores(np.arange(n), y, rng.random((2, 3, 1, n)) + 0.3 * y, tested, n) for y in labels]


def test_patients_and_folds_are_drawn_once_and_reused_for_all_tasks() -> None:
    tasks = tasks_of_one_cohort(3)
    draws = cohort_draws(tasks, np.random.default_rng(7), 50)
    rng = np.random.default_rng(7)
    patients, folds = draw_counts(rng, 40, 50), draw_counts(rng, 3, 50)
    by_task = np.mean([fold_scores(task, patients) for task in tasks], axis=0)
    expected = np.array([[np.average(by_task[b, m], weights=folds[b]) for m in range(2)] for b in range(50)])
    np.testing.assert_allclose(draws, expected, atol=1e-12)


def test_the_same_task_twice_narrows_nothing() -> None:
    [task] = tasks_of_one_cohort(1)
    once = cohort_draws([task], np.random.default_rng(0), 500)
    twice = cohort_draws([task, task], np.random.default_rng(0), 500)
    np.testing.assert_allclose(twice, once, atol=1e-12)


def test_a_task_that_a_draw_leaves_without_a_class_is_left_out_of_that_draw_for_all_models() -> None:
    common, rare = tasks_of_one_cohort(2)
    rare.targets[:] = np.arange(40) == 0
    draws = cohort_draws([common, rare], np.random.default_rng(1), 400)
    alone = cohort_draws([common], np.random.default_rng(1), 400)
    without = draw_counts(np.random.default_rng(1), 40, 400)[:, 0] == 0
    assert 0.2 < without.mean() < 0.5
    np.testing.assert_allclose(draws[without], alone[without])


def test_cohorts_are_drawn_whole_with_every_models_own_scores_in_step() -> None:
    rng = np.random.default_rng(0)
    cohorts = np.repeat(rng.random((4, 1, 1)), 200, axis=1) + np.array([0.0, 0.1])
    draws = overall_draws(cohorts, np.random.default_rng(3))
    np.testing.assert_allclose(draws[:, 1] - draws[:, 0], 0.1)
    assert draws[:, 0].std() == pytest.approx(cohorts[:, 0, 0].std() / 2, rel=0.2)


def test_cohorts_that_differ_widen_the_interval_over_what_patients_alone_give() -> None:
    rng = np.random.default_rng(0)
    cohorts = np.array([0.5, 0.6, 0.7, 0.8])[:, None, None] + 0.01 * rng.standard_normal((4, 2000, 1))
    assert overall_draws(cohorts, rng).std() > 5 * cohorts.mean(axis=0).std()


@pytest.mark.parametrize("n_cohorts", [2, 5, 6, 9])
def test_the_sign_flip_equals_scipys_exact_permutation_test(n_cohorts: int) -> None:
    differences = np.random.default_rng(n_cohorts).standard_normal(n_cohorts) + 0.8
    expected = permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=False, n_resamples=np.inf
    )
    assert sign_flip_p(differences) == pytest.approx(expected.pvalue)


def test_five_cohorts_cannot_reach_five_percent_and_six_can() -> None:
    assert sign_flip_p(np.ones(5)) == 2 / 2**5 > 0.05
    assert sign_flip_p(np.ones(6)) == 2 / 2**6 < 0.05


def test_many_cohorts_are_sampled_and_an_undefined_one_gives_nan() -> None:
    assert 0 < sign_flip_p(np.full(30, 0.1)) < 0.001
    assert sign_flip_p(np.r_[np.ones(15), -np.ones(15)]) == 1
    assert np.isnan(sign_flip_p(np.array([0.1, np.nan])))
    assert np.isnan(sign_flip_p(np.empty(0)))
