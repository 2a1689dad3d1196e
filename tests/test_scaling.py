"""Scaling against scikit-learn, and its blindness to what it was not fitted on."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler, normalize

from milbench.errors import DataError, UsageError
from milbench.scaling import FeatureScaler

RNG = np.random.default_rng(0)
BAGS = [torch.from_numpy(RNG.standard_normal((n, 5)) * [1, 10, 0.1, 3, 0] + 1000) for n in (1, 7, 30)]
ROWS = torch.cat(BAGS).numpy()
NEW = torch.from_numpy(RNG.standard_normal((4, 5)) * 20 + 1000)


@pytest.mark.parametrize(("mode", "oracle"), [("standard", StandardScaler()), ("minmax", MinMaxScaler((-1, 1)))])
def test_scaling_equals_scikit_learns(mode: str, oracle: StandardScaler | MinMaxScaler) -> None:
    scaled = FeatureScaler(mode).fit(BAGS)(NEW)
    expected = oracle.fit(ROWS[:, :4]).transform(NEW[:, :4].numpy())
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled[:, :4].numpy(), expected, atol=2e-2, rtol=2e-3)


def test_standard_scaling_is_exact_where_float32_can_hold_the_values() -> None:
    bags = [bag[:, :4] - 1000 for bag in BAGS]
    scaled = FeatureScaler("standard").fit(bags)(bags[2])
    expected = StandardScaler().fit(ROWS[:, :4] - 1000).transform(bags[2].numpy())
    np.testing.assert_allclose(scaled.numpy(), expected, atol=1e-5)


def test_l2_gives_patches_unit_length_and_leaves_zero_patches_alone() -> None:
    bag = torch.cat([NEW, torch.zeros(1, 5)])
    np.testing.assert_allclose(FeatureScaler("l2")(bag).numpy(), normalize(bag.numpy()), atol=1e-6)


@pytest.mark.parametrize("mode", ["standard", "minmax"])
def test_a_constant_column_becomes_zero(mode: str) -> None:
    scaled = FeatureScaler(mode).fit([torch.tensor([[1.0, 5.0], [3.0, 5.0]])])(torch.tensor([[2.0, 5.0]]))
    assert scaled.tolist() == [[0.0, 0.0]]


def test_none_changes_nothing_but_the_type() -> None:
    assert torch.equal(FeatureScaler("none").fit(BAGS)(NEW.half()), NEW.half().float())


def test_an_unfitted_or_unknown_scaler_is_refused() -> None:
    with pytest.raises(DataError, match="before it was fitted"):
        FeatureScaler("standard")(NEW)
    with pytest.raises(UsageError, match="Did you mean 'minmax'"):
        FeatureScaler("min-max")
