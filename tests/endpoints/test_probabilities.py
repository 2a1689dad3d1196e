"""Probabilities of logits."""

import numpy as np
import pytest
import torch

from milbench.endpoints.probabilities import sigmoids
from milbench.metrics.binary import auroc


def test_sigmoids_are_those_of_float32_up_to_a_logit_of_13() -> None:
    logits = torch.linspace(-80, 13, 2001).reshape(3, 667)
    np.testing.assert_array_equal(sigmoids(logits), torch.sigmoid(logits).double().numpy())


def test_sure_bags_keep_their_order() -> None:
    logits = torch.linspace(10, 30, 5001)
    assert (torch.sigmoid(logits) == 1).sum() > 1000  # float32 alone ties them
    found = sigmoids(logits)
    assert (np.diff(found) >= 0).all()
    assert (np.diff(found[::50]) > 0).all()


def test_auroc_of_a_very_sure_model_is_that_of_its_logits() -> None:
    logits = torch.tensor([17.5, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert auroc(labels, torch.sigmoid(logits).double().numpy()) == pytest.approx(0.5)
    assert auroc(labels, sigmoids(logits)) == 1


def test_very_low_logits_keep_their_order() -> None:
    logits = torch.tensor([-400.0, -300.0, -200.0, -100.0])
    assert (np.diff(sigmoids(logits)) > 0).all()


def test_an_undefined_logit_has_no_probability() -> None:
    found = sigmoids(torch.tensor([float("nan"), float("inf"), -float("inf")]))
    assert np.isnan(found[0])
    assert found[1:].tolist() == [1, 0]
