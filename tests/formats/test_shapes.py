"""Shapes: what is a bag is one whatever axes it was saved with; what is none is told apart from an empty one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from milbench.errors import FeatureFileError
from milbench.formats.shapes import as_bag, bag_shape, fitting

HERE = Path("a.h5")


@pytest.mark.parametrize(
    ("shape", "bag"),
    [
        ((9, 7), (9, 7)),
        ((1, 9, 7), (9, 7)),  # a batch
        ((9, 1, 7), (9, 7)),  # one token per patch
        ((9, 7, 1, 1), (9, 7)),  # pooled positions
        ((1, 7, 1, 1), (1, 7)),  # the same of one patch
        ((1, 9, 7, 1), (9, 7)),
        ((1, 1, 9, 7), (9, 7)),
        ((1, 9, 1), (9, 1)),
        ((9, 1, 1), (9, 1)),
        ((1, 1, 7), (1, 7)),
        ((7,), (1, 7)),
        ((1, 7), (1, 7)),
        ((0, 7), (0, 7)),
        ((0, 7, 1, 1), (0, 7)),
        ((1, 0, 7), (0, 7)),
        ((0,), (0, 0)),
    ],
    ids=str,
)
def test_a_bag_keeps_its_values_in_their_order(shape: tuple[int, ...], bag: tuple[int, int]) -> None:
    assert bag_shape(HERE, shape) == bag
    values = torch.arange(float(np.prod(shape))).reshape(shape)
    assert as_bag(HERE, values).shape == bag
    assert torch.equal(as_bag(HERE, values).ravel(), values.ravel())


@pytest.mark.parametrize("shape", [(9, 197, 7), (9, 7, 14, 14), (2, 9, 7), ()], ids=str)
def test_what_is_no_bag_is_refused_with_its_shape_and_is_never_called_empty(shape: tuple[int, ...]) -> None:
    for use in (lambda: bag_shape(HERE, shape), lambda: as_bag(HERE, torch.zeros(shape))):
        with pytest.raises(
            FeatureFileError, match=r"a\.h5: features have shape .*expected \(patches, width\)\. Keep one"
        ):
            use()


@pytest.mark.parametrize("shape", [(3, 2), (1, 3, 2), (3, 1, 2)], ids=str)
@pytest.mark.parametrize("dtype", [np.int16, np.uint64, ">i8", np.float32])
def test_coordinates_of_any_number_type_become_whole_pixels(shape: tuple[int, ...], dtype: object) -> None:
    stored = np.arange(6).reshape(shape).astype(dtype)
    coords = fitting(stored, 3, "level-0 px").coords
    assert coords is not None
    assert coords.dtype == torch.int64
    assert coords.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_the_place_of_one_patch_may_have_lost_its_axis() -> None:
    assert fitting(np.array([5, 7]), 1, "level-0 px").coords.tolist() == [[5, 7]]


def test_rounded_coordinates_are_no_coordinates() -> None:
    stored = torch.tensor([[10_001, 3]]).bfloat16()
    assert fitting(stored, 1, "unit unknown") == (None, "coordinates are bfloat16, which rounds them; expected whole numbers or float32")  # fmt: skip


def test_no_patch_and_no_coordinate_fit() -> None:
    assert fitting(np.zeros(0), 0, "level-0 px").coords.shape == (0, 2)
    assert fitting(np.zeros((0, 2)), 3, "level-0 px").problem == "3 patches but no coordinates"
