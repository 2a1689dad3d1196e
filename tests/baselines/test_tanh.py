"""Hyperbolic tangent by way of a sigmoid: equal up to a rounding of 1, at the ends exactly."""

import pytest
import torch

from milbench_baselines.layers.tanh import tanh_


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 2.4e-7), (torch.float64, 4.5e-16)])
def test_it_is_torchs_up_to_a_rounding_of_one(dtype: torch.dtype, rounding: float) -> None:
    x = torch.linspace(-30, 30, 20_001, dtype=dtype)
    expected = x.tanh()
    torch.testing.assert_close(tanh_(x), expected, atol=rounding, rtol=0)


def test_it_is_in_place_and_keeps_its_ends() -> None:
    x = torch.tensor([-torch.inf, -100, 0, 100, torch.inf])
    assert tanh_(x) is x
    assert x.tolist() == [-1, -1, 0, 1, 1]
