"""Answers against official numbers, and what must hold of any logits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from places import GOLDEN
from scipy.special import softmax

from milbench.endpoints.answers import answers_of, decoded_grade
from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fit import fit
from milbench.endpoints.fitted import FittedEndpoint, LossOptions

NLL = np.load(GOLDEN / "endpoints" / "nll_discrete.npz")
CORN = np.load(GOLDEN / "endpoints" / "corn_coral.npz")
GRADES = Endpoint("ordinal", ("0", "1", "2", "3", "4", "5"))
SURVIVAL = FittedEndpoint(Endpoint("survival"), "nll", edges=(100.0, 200.0, 300.0))
EVERY = [
    FittedEndpoint(),
    FittedEndpoint(Endpoint("multiclass", ("a", "b", "c")), "ce"),
    *[FittedEndpoint(GRADES, loss) for loss in ("ce", "corn", "l1")],
    FittedEndpoint(Endpoint("regression"), "huber", center=3.0, scale=2.0),
    SURVIVAL,
    FittedEndpoint(Endpoint("survival"), "cox"),
]


@pytest.mark.parametrize("fitted", EVERY, ids=lambda each: f"{each.kind}-{each.loss}")
def test_every_answer_has_its_column_and_is_finite_for_extreme_logits(fitted: FittedEndpoint) -> None:
    logits = np.array([-1e4, -30, 0, 30, 1e4], dtype=np.float32)[:, None].repeat(fitted.width, axis=1)
    answers = answers_of(fitted, logits)
    assert answers.shape == (5, len(fitted.answers))
    assert answers.dtype == np.float64
    assert np.isfinite(answers).all()


def test_probabilities_of_a_binary_task_are_the_sigmoid() -> None:
    logits = np.linspace(-9, 9, 50, dtype=np.float32)[:, None]
    np.testing.assert_allclose(answers_of(FittedEndpoint(), logits), torch.sigmoid(torch.from_numpy(logits)), rtol=3e-7)


def test_risk_and_survival_are_the_official_ones() -> None:
    answers = answers_of(SURVIVAL, NLL["logits"])
    np.testing.assert_allclose(answers[:, 0], NLL["risk"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(answers[:, 1:], NLL["survival"][:, :-1], rtol=0, atol=1e-12)


def test_the_risk_is_higher_where_patients_die_earlier() -> None:
    early, late = np.array([[5, 5, 5, 5], [-5, -5, -5, -5]], dtype=np.float32)
    assert answers_of(SURVIVAL, early[None])[0, 0] > answers_of(SURVIVAL, late[None])[0, 0]


def test_corn_has_the_official_probabilities_and_its_median_is_the_official_grade() -> None:
    answers = answers_of(FittedEndpoint(GRADES, "corn"), CORN["logits"])
    above = 1 - np.cumsum(answers[:, 1:], axis=1)[:, :-1]
    np.testing.assert_allclose(above, CORN["corn_probabilities"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(answers[:, 0], CORN["corn_probabilities"].sum(axis=1), rtol=0, atol=1e-12)
    assert (above > 0.5).sum(axis=1).tolist() == CORN["corn_label"].tolist()


def test_classes_have_the_softmax() -> None:
    logits = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    answers = answers_of(EVERY[1], logits)
    np.testing.assert_allclose(answers, softmax(logits.astype(float), axis=1), rtol=1e-12)


@pytest.mark.parametrize("loss", ["ce", "corn", "l1"])
@given(values=arrays(np.float32, (3, 6), elements=st.floats(-50, 50, width=32)))
def test_grades_have_probabilities_whose_mean_is_the_expected_grade(loss: str, values: np.ndarray) -> None:
    fitted = FittedEndpoint(GRADES, loss)
    answers = answers_of(fitted, values[:, : fitted.width])
    assert not np.signbit(answers[:, 1:]).any()  # a table would show -0.0
    np.testing.assert_allclose(answers[:, 1:].sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(answers[:, 1:] @ np.arange(6), answers[:, 0], rtol=1e-9, atol=1e-12)


def test_a_grade_learned_by_l1_is_shared_between_its_neighbours() -> None:
    fitted = FittedEndpoint(Endpoint("ordinal", ("a", "b", "c")), "l1")
    answers = answers_of(fitted, np.array([[0.25], [1.0], [-3.0], [2.5]], dtype=np.float32))
    assert answers.tolist() == [[0.25, 0.75, 0.25, 0], [1, 0, 1, 0], [0, 1, 0, 0], [2, 0, 0, 1]]


def test_the_decoded_grade_is_cut_at_a_half() -> None:
    assert decoded_grade(np.array([-1, 0.49, 0.5, 1.49, 1.5, 2.5, 9]), 3).tolist() == [0, 0, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_values_come_back_in_their_own_units(transform: str) -> None:
    values = np.array([0.0, 1.5, 30.0, 700.0])
    fitted = fit(Endpoint("regression", transform=transform), values, LossOptions(), task="tmb").fitted
    back = answers_of(fitted, fitted.targets(values)[:, None])
    np.testing.assert_allclose(back[:, 0], values, rtol=1e-9, atol=1e-9)


def test_a_value_beyond_all_numbers_is_infinite_without_a_warning() -> None:
    fitted = FittedEndpoint(Endpoint("regression", transform="log1p"), "huber", center=1.0, scale=1.0)
    assert answers_of(fitted, np.array([[1e4]], dtype=np.float32)).tolist() == [[np.inf]]


def test_the_risk_of_cox_is_the_logit() -> None:
    logits = np.array([[0.1], [-3.0]], dtype=np.float32)
    assert (answers_of(EVERY[-1], logits) == logits.astype(float)).all()


def test_answers_at_edges_that_six_digits_do_not_tell_apart_have_names_of_their_own() -> None:
    near = FittedEndpoint(Endpoint("survival"), "nll", edges=(10000.1, 10000.2))
    assert near.answers == ("risk", "survival at 10000.1 days", "survival at 10000.2 days")
    assert len(set(FittedEndpoint(Endpoint("survival"), "nll", edges=(100000.1, 100000.2)).answers)) == 3
