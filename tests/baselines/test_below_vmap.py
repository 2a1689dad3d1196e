"""Below vmap: a function that sees all models and bags at once gives what each pair gives alone, whichever vmap is the outer one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from milbench_baselines.layers import below_vmap
from milbench_baselines.layers.side_by_side import by_its_own

MODELS, BAGS = 3, 4


def product(matrices: Tensor, rows: Tensor) -> Tensor:
    return by_its_own(rows, matrices)


@pytest.mark.parametrize("models_are_outer", [True, False])
@pytest.mark.parametrize("bags_are_shared", [True, False])
@pytest.mark.parametrize("knows_torch", [True, False])
def test_values_and_gradients_are_those_of_each_model_and_bag(
    *, models_are_outer: bool, bags_are_shared: bool, knows_torch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert below_vmap.KNOWS_TORCH  # else stacks are slower without a word
    monkeypatch.setattr(below_vmap, "KNOWS_TORCH", knows_torch)
    matrices = torch.randn(MODELS, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(BAGS, 2, 7, 6, dtype=torch.float64, requires_grad=True)
    given = rows if bags_are_shared else rows.expand(MODELS, *rows.shape)
    of_models = None if bags_are_shared else 0
    if models_are_outer:
        found = vmap(vmap(product, in_dims=(None, 0)), in_dims=(0, of_models))(matrices, given)
    else:
        ahead = given if bags_are_shared else given.transpose(0, 1)
        found = vmap(vmap(product, in_dims=(0, of_models)), in_dims=(None, 0))(matrices, ahead).transpose(0, 1)
    expected = torch.einsum("skpq,bknq->sbknp", matrices, rows)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    gradients = [torch.autograd.grad((each * weights).sum(), (matrices, rows)) for each in (found, expected)]
    torch.testing.assert_close(*gradients)
