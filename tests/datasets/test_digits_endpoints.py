"""The embedded cohort of every kind is what its page says: levels can be read from bags, and labels follow from levels."""

import numpy as np
import pandas as pd
import pytest

from milbench.datasets import dataset
from milbench.datasets.digits_endpoints import (
    CLASS_DIGITS,
    DIGIT_TASKS,
    NAME,
    TASKS,
    levels_shown,
    make_digit_endpoints,
    optimum,
    optimum_on,
)
from milbench.endpoints.endpoint import KINDS, time_of

MADE = make_digit_endpoints()
BAGS, LEVELS = MADE.bags, MADE.levels
PATIENTS = BAGS.slides["patient_id"]
FIRST = (~PATIENTS.duplicated()).to_numpy()


def column(task: str) -> np.ndarray:
    return BAGS.slides[task].to_numpy()


def level(task: str) -> np.ndarray:
    return LEVELS[:, TASKS.index(task)]


def test_the_catalogue_tells_its_size_and_kinds() -> None:
    entry = dataset(NAME)
    cohort = entry.load(None, allow_missing=False)
    assert (len(cohort.slides), PATIENTS.nunique(), cohort.tasks) == (entry.n_slides, entry.n_patients, entry.tasks)
    assert tuple(cohort.endpoint(task).kind for task in TASKS) == KINDS
    bag = cohort.load("digits-endpoints-0000")
    assert bag.instance_labels.shape == (36, 5)


def test_the_run_is_told_the_optimum_of_every_task() -> None:
    (note,) = dataset(NAME).load(None, allow_missing=False).notes
    for task, known in optimum().items():
        assert task in note
        assert f"{known.value:.3f}" in note


def test_the_same_seed_gives_the_same_cohort_and_another_seed_another() -> None:
    again, other = make_digit_endpoints(), make_digit_endpoints(2)
    assert again.bags.features.tobytes() == BAGS.features.tobytes()
    pd.testing.assert_frame_equal(again.bags.slides, BAGS.slides)
    assert other.bags.features.tobytes() != BAGS.features.tobytes()
    first, second = (dataset(NAME).load(None, allow_missing=False).fingerprint for _ in range(2))
    assert first == second


def test_levels_can_be_read_from_the_digits_of_a_bag() -> None:
    np.testing.assert_array_equal(levels_shown(BAGS.digits), LEVELS)
    for task, digit in (("grade_3", 3), ("score_1", 1), ("survival_5", 5)):
        shown = (BAGS.digits == digit).sum(axis=1)
        np.testing.assert_array_equal(shown, level(task) * (2 if task == "grade_3" else 1))
    counts = np.stack([(BAGS.digits == digit).sum(axis=1) for digit in CLASS_DIGITS], axis=1)
    np.testing.assert_array_equal(counts.argmax(axis=1), level("commonest"))


def test_labels_are_the_level_but_for_the_noise_that_the_page_states() -> None:
    assert (column("has_2") == level("has_2"))[FIRST].mean() == pytest.approx(0.90, abs=0.03)
    assert (column("commonest") == level("commonest"))[FIRST].mean() == pytest.approx(0.85, abs=0.04)
    assert (column("grade_3") == level("grade_3"))[FIRST].mean() == pytest.approx(0.80, abs=0.04)
    assert np.abs(column("grade_3") - level("grade_3")).max() == 1
    noise = (column("score_1") - level("score_1"))[FIRST]
    assert noise.mean() == pytest.approx(0, abs=0.1)
    assert noise.std() == pytest.approx(1, abs=0.1)


def test_two_in_five_are_censored_and_more_fives_mean_earlier_events() -> None:
    labels, fives = column("survival_5"), level("survival_5")
    assert (labels < 0)[FIRST].mean() == pytest.approx(0.40, abs=0.05)
    seen = labels > 0
    assert np.median(time_of(labels)[seen & (fives <= 2)]) > 2 * np.median(time_of(labels)[seen & (fives >= 4)])


def test_levels_are_independent_of_each_other_and_of_censoring() -> None:
    assert np.abs(np.corrcoef(LEVELS[FIRST].T) - np.eye(5)).max() < 0.15


def test_best_answers_reach_the_optimum_on_many_patients_as_far_as_chance_lets_them() -> None:
    """Five cohorts of 600 patients: the mean lies within two or three standard errors of the exact value."""
    cohorts = [make_digit_endpoints(seed) for seed in range(5)]
    reached = pd.DataFrame([optimum_on(made, np.arange(len(made.levels))) for made in cohorts]).mean()
    for task, known in optimum().items():
        assert reached[task] == pytest.approx(known.value, abs=0.02)
        assert 0.7 < known.value < 0.95


def test_patients_share_labels_and_levels() -> None:
    together = BAGS.slides[list(TASKS)].join(pd.DataFrame(LEVELS))
    assert (together.groupby(PATIENTS).nunique() == 1).all(axis=None)


def test_truth_marks_the_evidence() -> None:
    for place, task in enumerate(DIGIT_TASKS.values()):
        np.testing.assert_array_equal(BAGS.truth[..., place], np.isin(BAGS.digits, task.evidence))
