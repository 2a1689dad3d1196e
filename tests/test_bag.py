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


@pytest.mark.parametrize("sign", [1, -1])
def test_good_values_whose_sum_overflows_are_accepted(sign: int) -> None:
    features = torch.full((2000, 64), sign * torch.finfo(torch.float16).max, dtype=torch.float16)
    assert not torch.isfinite(features.sum())
    assert check_features(features, "s0.pt") is features


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1, -1])
def test_values_whose_square_is_beyond_float32_are_refused_by_name(dtype: torch.dtype, sign: int) -> None:
    features = torch.ones(5, 4, dtype=dtype)
    features[3] = sign * 1e18
    assert check_features(features, "s0.pt") is features
    features[3, 2] = sign * 1e38
    with pytest.raises(
        FeatureFileError, match=r"s0\.pt: 1 of 5 patches hold values up to (1e\+38|9.97e\+37), whose square is beyond"
    ):
        check_features(features, "s0.pt")
    if dtype == torch.float64:
        features[:, 0] = 1e300
        with pytest.raises(FeatureFileError, match=r"5 of 5 patches hold values up to 1e\+300"):
            check_features(features, "s0.pt")


def test_patches_of_width_0_are_refused_by_name() -> None:
    with pytest.raises(FeatureFileError, match=r"s0\.pt: features are 0 wide"):
        check_features(torch.ones(3, 0), "s0.pt")


def test_infinities_of_both_signs_and_nan_do_not_cancel() -> None:
    for values in ([torch.inf, -torch.inf], [torch.nan, torch.inf], [torch.nan, 0.0], [-torch.inf, torch.nan]):
        assert not all_finite(torch.tensor([values]))


def test_no_values_are_all_finite() -> None:
    assert all_finite(torch.zeros(3, 0))


def test_a_bag_shows_itself_in_one_line() -> None:
    assert repr(Bag(torch.zeros(25, 6), "s0")) == "Bag(s0: 25 × 6 torch.float32)"
