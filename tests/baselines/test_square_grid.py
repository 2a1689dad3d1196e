"""The square that a bag is laid out on."""

import numpy as np
import pytest
import torch

from milbench_baselines.layers.square_grid import folded, side_of


def test_the_side_is_that_of_the_smallest_square_that_holds_the_patches() -> None:
    for n in range(1, 200):
        k = side_of(n)
        assert (k - 1) ** 2 < n <= k**2


@pytest.mark.parametrize("n", [1, 2, 5, 7, 9])
def test_a_copys_weight_is_added_to_its_patch(n: int) -> None:
    cells = side_of(n) ** 2
    weights = torch.rand(3, cells, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    expected = np.zeros((3, n))
    for cell in range(cells):  # the copies are of the first patches, in order
        expected[:, cell % n] += weights[:, cell].numpy()
    np.testing.assert_allclose(folded(weights, n).numpy(), expected, rtol=1e-15)


def test_weights_without_copies_stay_as_they_are() -> None:
    weights = torch.rand(2, 5)
    assert torch.equal(folded(weights, 5), weights)
