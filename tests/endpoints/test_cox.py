"""Cox loss and gradient against statsmodels and STAMP, which are right in every case, and against autograd."""

import json

import numpy as np
import pytest
import torch
from endpoints_for_tests import efron_by_definition
from places import GOLDEN
from torch import Tensor

from milbench.endpoints import cox
from milbench.endpoints.cox import cox_loss
from milbench.endpoints.endpoint import signed_time

FILE = np.load(GOLDEN / "endpoints" / "cox.npz")
SUMMARY = json.loads((GOLDEN / "endpoints" / "cox.json").read_text())
CASES = [str(case) for case in FILE["cases"]]


def case(name: str) -> tuple[Tensor, Tensor]:
    """Logits and signed days."""
    days = signed_time(FILE[f"{name}|time"], FILE[f"{name}|event"].astype(float))
    return torch.from_numpy(FILE[f"{name}|x"]), torch.from_numpy(days)


def random_batches(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Logits, and few distinct times, so that events tie with events and with censored ones; some labels are unknown."""
    rng = np.random.default_rng(seed)
    days = rng.integers(1, 6, shape) * rng.choice([-1.0, 1.0, 1.0, 0.0], shape)
    return torch.from_numpy(rng.normal(size=shape)), torch.from_numpy(days)


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_that_of_statsmodels_over_the_number_of_events(name: str) -> None:
    logits, days = case(name)
    n_events = int((days > 0).sum())
    expected = FILE[f"{name}|statsmodels efron sum|loss"] / n_events
    # the golden's large risks went through float32 in other packages; statsmodels took the same numbers
    np.testing.assert_allclose(cox_loss(logits, days).loss, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_those_of_stamp_over_the_number_of_events(name: str) -> None:
    logits, days = case(name)
    # STAMP's mean is over distinct times with events, ours over events
    factor = len(days[days > 0].unique()) / int((days > 0).sum())
    result = cox_loss(logits, days)
    np.testing.assert_allclose(
        result.loss, FILE[f"{name}|STAMP training (efron) mean|loss"] * factor, rtol=2e-7, atol=1e-12
    )
    np.testing.assert_allclose(
        result.gradient, FILE[f"{name}|STAMP training (efron) mean|grad"] * factor, rtol=0, atol=2e-7
    )


@pytest.mark.parametrize("seed", range(20))
def test_loss_and_gradient_are_those_of_the_definition(seed: int) -> None:
    logits, days = random_batches(seed, 16)
    leaf = logits.clone().requires_grad_()
    expected = efron_by_definition(leaf, days)
    result = cox_loss(logits, days)
    np.testing.assert_allclose(result.loss, expected.detach(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(result.gradient, torch.autograd.grad(expected, leaf)[0], rtol=0, atol=1e-14)


def test_the_order_of_the_rows_does_not_matter() -> None:
    logits, days = random_batches(5, 40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    result, shuffled = cox_loss(logits, days), cox_loss(logits[order], days[order])
    np.testing.assert_allclose(shuffled.loss, result.loss, rtol=1e-13)
    np.testing.assert_allclose(shuffled.gradient, result.gradient[order], rtol=0, atol=1e-15)


def test_a_slide_censored_at_the_time_of_an_event_is_at_risk() -> None:
    result = cox_loss(torch.zeros(2), torch.tensor([3.0, -3.0]))
    assert result.loss.item() == pytest.approx(np.log(2))
    assert result.gradient.tolist() == [-0.5, 0.5]


@pytest.mark.parametrize(
    ("days", "has_event"), [([-1.0, -2.0], False), ([0.0, 0.0], False), ([5.0], True), ([-5.0], False)]
)
def test_a_batch_in_which_no_risks_compare_has_no_loss_and_no_gradient(days: list[float], has_event: bool) -> None:
    result = cox_loss(torch.randn(len(days)), torch.tensor(days))
    assert result.loss == 0
    assert (result.gradient == 0).all()
    assert bool(result.has_event) == has_event
    assert SUMMARY["all censored"]["STAMP training"] == [0, 0]


def test_an_unknown_label_changes_nothing() -> None:
    logits, days = random_batches(7, 12)
    alone = cox_loss(logits[days != 0], days[days != 0])
    result = cox_loss(logits, days)
    np.testing.assert_allclose(result.loss, alone.loss, rtol=1e-13)
    np.testing.assert_allclose(result.gradient[days != 0], alone.gradient, rtol=0, atol=1e-15)
    assert (result.gradient[days == 0] == 0).all()


def test_stacked_models_with_their_own_labels_have_the_losses_of_each_alone() -> None:
    logits, days = random_batches(1, 3, 16)
    days[1] = -days[1].abs()  # no event in this one
    together = cox_loss(logits, days)
    for row in range(3):
        for mine, alone in zip(together, cox_loss(logits[row], days[row]), strict=True):
            np.testing.assert_array_equal(mine[row], alone)
    assert together.has_event.tolist() == [True, False, True]


def test_a_whole_side_is_computed_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, days = random_batches(9, 2, 50)
    whole = cox_loss(logits, days)
    monkeypatch.setattr(cox, "ROWS_AT_ONCE", 7)
    for in_parts, at_once in zip(cox_loss(logits, days), whole, strict=True):
        np.testing.assert_allclose(in_parts, at_once, rtol=1e-13, atol=1e-16)


def test_huge_risks_in_float32_neither_overflow_nor_vanish() -> None:
    result = cox_loss(torch.tensor([900.0, -900.0, 0.0]), torch.tensor([2.0, 1.0, -3.0]))
    assert result.loss.item() == pytest.approx((0 + 1800) / 2)
    assert torch.isfinite(result.gradient).all()
