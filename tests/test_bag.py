"""What a bag may hold: every finite value and nothing else."""

import pytest
import torch

from milbench.bag import Bag, all_finite, check_features
from milbench.errors import FeatureFileError

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_bad_value_is_found_wherever_it_stands(dtype: torch.dtype) -> None:
    for rows, width in ((1, 1), (3, 5), (7, 33), (4, 64)):
        for place in range(rows * width):
            for value in (torch.nan, torch.inf, -torch.inf):
                features = torch.randn(rows, width).to(dtype)
                features.view(-1)[place] = value
                with pytest.raises(FeatureFileError, match=rf"1 of {rows} patches hold NaN or infinite"):
                    check_features(features, "s0.pt")
                assert not all_finite(features.T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
def test_good_values_whose_sum_overflows_are_accepted(dtype: torch.dtype, sign: int) -> None:
    features = torch.full((2000, 64), sign * torch.finfo(dtype).max, dtype=dtype)
    assert not torch.isfinite(features.sum())
    assert check_features(features, "s0.pt") is features


def test_infinities_of_both_signs_and_nan_do_not_cancel() -> None:
    for values in ([torch.inf, -torch.inf], [torch.nan, torch.inf], [torch.nan, 0.0], [-torch.inf, torch.nan]):
        assert not all_finite(torch.tensor([values]))


def test_no_values_are_all_finite() -> None:
    assert all_finite(torch.zeros(3, 0))


def test_a_bag_shows_itself_in_one_line() -> None:
    assert repr(Bag(torch.zeros(25, 6), "s0")) == "Bag(s0: 25 × 6 torch.float32)"
