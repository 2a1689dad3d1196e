"""The optimum of every kind: what brute force over all answers finds, and what large simulations give."""

from itertools import product

import numpy as np
import pytest

from milbench.endpoints.answers import decoded_grade
from milbench.endpoints.endpoint import event_of, time_of
from milbench.metrics import auroc, concordance, macro_auroc, pearson, quadratic_kappa
from milbench.simulate.channels import (
    ClassChannel,
    ScoreChannel,
    SurvivalChannel,
    censoring_for,
    same_or_another,
    same_or_next,
)
from milbench.simulate.optimum import of_binary, of_classes, of_grades, of_score, of_survival

MANY = 40_000
GRADES = np.arange(3.0)


def some_joint(seed: int, n_states: int, n_classes: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(n_states * n_classes, 0.5)).reshape(n_states, n_classes)


def drawn(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States and labels of many patients."""
    cells = np.random.default_rng(0).choice(joint.size, size=MANY, p=joint.ravel())
    return cells // joint.shape[1], (cells % joint.shape[1]).astype(float)


@pytest.mark.parametrize("seed", range(4))
def test_no_order_of_the_states_has_a_higher_auroc(seed: int) -> None:
    joint = some_joint(seed, 4, 2)
    states, labels = np.repeat(np.arange(4), 2), np.tile([0.0, 1.0], 4)
    every = [auroc(labels, np.array(scores)[states], joint.ravel()) for scores in product(range(4), repeat=4)]
    best = of_binary(joint)
    assert best.value == pytest.approx(max(every))
    assert auroc(labels, best.answers[states, 0], joint.ravel()) == pytest.approx(best.value)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_macro_auroc_is_what_the_posterior_gets_of_many_draws(seed: int) -> None:
    joint = some_joint(seed, 5, 4)
    best = of_classes(joint)
    states, labels = drawn(joint)
    assert macro_auroc(labels, best.answers[states]) == pytest.approx(best.value, abs=0.01)
    np.testing.assert_allclose(best.answers, joint / joint.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(20))
def test_no_other_calls_have_a_higher_kappa(seed: int) -> None:
    joint = some_joint(seed, 5, 3)
    labels = np.tile(GRADES, 5)
    every = [
        quadratic_kappa(labels, np.repeat(calls, 3).astype(float), 3, joint.ravel())
        for calls in product(range(3), repeat=5)
    ]
    best = of_grades(joint)
    assert best.value == pytest.approx(np.nanmax(every))
    reached = quadratic_kappa(labels, np.repeat(decoded_grade(best.answers[:, 0], 3), 3), 3, joint.ravel())
    assert reached == pytest.approx(best.value)


def test_the_rounded_expected_grade_alone_may_be_worse_than_the_best_calls() -> None:
    """Where levels tell little, the expected grade stays near the mean and rounds to one grade for all."""
    chances = np.array([[0.40, 0.30, 0.30], [0.30, 0.30, 0.40]])
    joint = chances / 2
    rounded = np.repeat(decoded_grade(chances @ GRADES, 3), 3)
    assert quadratic_kappa(np.tile(GRADES, 2), rounded, 3, joint.ravel()) == 0
    assert of_grades(joint).value > 0.1


def test_states_that_tell_nothing_leave_kappa_at_chance() -> None:
    assert of_grades(np.full((3, 3), 1 / 9)).value == 0


def test_the_best_correlation_is_that_of_the_expected_score() -> None:
    channel, shares = ScoreChannel(np.array([0.0, 1.0, 5.0]), 2.0), np.array([0.5, 0.3, 0.2])
    rng = np.random.default_rng(0)
    levels = rng.choice(3, size=MANY, p=shares)
    scores = channel.draw(levels, rng)
    best = of_score(shares, channel.means, channel.noise)
    assert pearson(scores, best.answers[levels, 0]) == pytest.approx(best.value, abs=0.01)
    assert best.value > pearson(scores, np.array([0.0, 2.0, 5.0])[levels])


@pytest.mark.parametrize("censored", [0.0, 0.4, 0.8])
def test_the_best_concordance_is_what_hazards_get_and_no_order_gets_more(censored: float) -> None:
    shares, hazards = np.array([0.5, 0.2, 0.3]), np.array([1.0, 8.0, 3.0])
    censoring = censoring_for(shares, hazards, censored)
    rng = np.random.default_rng(0)
    levels = rng.choice(3, size=6000, p=shares)
    labels = SurvivalChannel(hazards, censoring, days=1e6, shape=1.7).draw(levels, rng)
    time, event = time_of(labels), event_of(labels)
    assert 1 - event.mean() == pytest.approx(censored, abs=0.02)
    best = of_survival(shares, hazards, censoring)
    reached = concordance(time, event, best.answers[levels, 0])
    assert reached == pytest.approx(best.value, abs=0.012)
    every = [concordance(time, event, np.array(risks, float)[levels]) for risks in product(range(3), repeat=3)]
    assert reached == max(every)


def test_whole_days_hardly_move_the_concordance() -> None:
    """The same clocks read in days and in parts of a millionth of a day."""
    hazards, levels = np.array([1.0, 20.0]), np.random.default_rng(1).integers(2, size=4000)
    both = [
        concordance(time_of(labels), event_of(labels), hazards[levels])
        for days in (1000.0, 1e9)
        for labels in [SurvivalChannel(hazards, 1.0, days).draw(levels, np.random.default_rng(2))]
    ]
    assert both[0] == pytest.approx(both[1], abs=1e-3)


@pytest.mark.parametrize("chances", [same_or_another(4, 0.7), same_or_next(4, 0.7)], ids=["another", "next"])
def test_classes_are_drawn_as_often_as_stated(chances: np.ndarray) -> None:
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    np.testing.assert_allclose(np.diag(chances), 0.7)
    channel = ClassChannel(None, chances)  # type: ignore[arg-type]
    for level in range(4):
        labels = channel.draw(np.full(MANY, level), np.random.default_rng(level)).astype(int)
        np.testing.assert_allclose(np.bincount(labels, minlength=4) / MANY, chances[level], atol=0.01)


def test_a_grade_that_is_not_shown_is_one_beside_it() -> None:
    np.testing.assert_allclose(same_or_next(3, 0.8), [[0.8, 0.2, 0], [0.1, 0.8, 0.1], [0, 0.2, 0.8]])


def test_the_share_of_censored_patients_is_met_exactly() -> None:
    shares, hazards = np.array([0.25, 0.75]), np.array([1.0, 10.0])
    censoring = censoring_for(shares, hazards, 0.4)
    assert shares @ (censoring / (hazards + censoring)) == pytest.approx(0.4, abs=1e-12)
