"""Lender: a model has the weights of others for a moment, and then its own again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from milbench.training.lender import Lender


def tied() -> nn.Sequential:
    """Two layers, the third the same as the first."""
    first = nn.Linear(3, 3)
    return nn.Sequential(first, nn.Linear(3, 3), first)


def test_a_model_computes_with_what_is_lent_also_where_modules_share_a_parameter() -> None:
    model, other = tied(), tied()
    lender = Lender(model, dict(model.named_parameters()))
    x = torch.randn(2, 3)
    with lender.lent([parameter.detach() for parameter in other.parameters()]):
        assert torch.equal(model(x), other(x))


def test_only_the_named_parameters_are_lent() -> None:
    model = tied()
    lender = Lender(model, ["1.weight"])
    with lender.lent([torch.zeros(3, 3)]):
        assert not model[1].weight.any()
        assert model[1].bias.any()


def test_its_own_parameters_are_back_after_an_error() -> None:
    model = tied()
    before = list(model.parameters())
    with pytest.raises(RuntimeError), Lender(model, dict(model.named_parameters())).lent([torch.zeros(1)] * 4):
        model(torch.randn(2, 3))
    assert all(one is other for one, other in zip(model.parameters(), before, strict=True))
