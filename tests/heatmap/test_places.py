"""Places: the size of a patch is stated, stored or guessed, and a guess that the patches contradict draws no polygon."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from milbench.bag import Bag
from milbench.errors import DataError
from milbench.heatmap.geojson import why_no_polygons
from milbench.heatmap.places import places_of
from milbench.patch_size import guessed_size


def grid(columns: int, rows: int, step: int, left: int = 0, top: int = 0) -> np.ndarray:
    x, y = np.meshgrid(np.arange(columns) * step + left, np.arange(rows) * step + top)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def bag(coords: np.ndarray, **more: object) -> Bag:
    return Bag(torch.zeros(len(coords), 3), "s", coords=torch.from_numpy(np.asarray(coords)), **more)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(2, 6), st.integers(2, 6), st.integers(8, 512), st.integers(1, 10**5), st.integers(1, 10**5),
    st.integers(0, 10**6),
)  # fmt: skip
def test_two_pieces_of_tissue_with_grids_of_their_own_have_one_patch_size(
    columns: int, rows: int, size: int, left: int, top: int, seed: int
) -> None:
    """Rows and columns of one piece never fall together with those of the other, whatever their offset."""
    other = grid(columns, rows, size, columns * size + left, rows * size + top)
    both = np.random.default_rng(seed).permutation(np.concatenate([grid(columns, rows, size), other]))
    assert guessed_size(both) == (size, 1.0)


@pytest.mark.parametrize(
    ("corners", "size", "agreement"),
    [
        (grid(5, 1, 256)[[0, 1, 2, 4]], 256, 1.0),  # a hole: two steps
        (grid(3, 3, 256) / 4.0, 64, 1.0),
        (grid(40, 30, 0.1).astype(np.float32), 0.1, 1.0),  # rounding made the steps uneven
        (grid(40, 30, 112.3, 7).astype(np.float32), 112.3, 1.0),
        (np.array([[0, 0], [512, 100], [1024, 900]]), 100, 0.0),  # no two in a row or column: any size fits as badly
        (np.array([[0, 0], [10, 0], [0, 50], [13, 50], [0, 90], [17, 90]]), 10, 1 / 3),
        (np.array([[7, 7]]), 1, 0.0),
        (np.array([[7, 7], [7, 7], [7, 19]]), 12, 1.0),  # the same place twice is no distance
    ],
)
def test_the_guess_is_the_commonest_distance_in_a_row_or_column(
    corners: np.ndarray, size: float, agreement: float
) -> None:
    assert guessed_size(corners) == (pytest.approx(size, rel=1e-4), pytest.approx(agreement))


def test_what_is_stated_goes_before_what_is_stored_and_that_before_a_guess() -> None:
    corners = grid(3, 3, 256)
    sizes = [
        places_of(bag(corners, patch_size=224.0), 300.0),
        places_of(bag(corners, patch_size=224.0)),
        places_of(bag(corners)),
    ]
    assert [(places.patch_size, places.is_guessed) for places in sizes] == [(300, False), (224, False), (256, True)]


def test_centres_move_by_half_of_the_stated_size() -> None:
    places = places_of(bag(grid(2, 2, 256), coords_unit="level-0 px, patch centres"), 100.0)
    assert places.corners[0].tolist() == [-50, -50]
    assert places.unit == "level-0 px"


@pytest.mark.parametrize(
    ("coords", "stated", "reason"),
    [
        (grid(3, 3, 256), None, ""),
        (
            np.array([[0, 0], [10, 0], [0, 50], [13, 50], [0, 90], [17, 90]]),
            None,
            "33% of its patches bear out a guess",
        ),
        (np.array([[0, 0], [10, 0], [0, 50], [13, 50], [0, 90], [17, 90]]), 10.0, ""),
        (np.array([[7, 7]]), None, "State it with --patch-size"),
        (np.array([[7, 7]]), 256.0, ""),
    ],
)
def test_no_polygon_is_drawn_from_a_guess_that_half_of_the_patches_contradict(
    coords: np.ndarray, stated: float | None, reason: str
) -> None:
    found = why_no_polygons(places_of(bag(coords), stated))
    assert reason in found
    assert bool(found) == bool(reason)


def test_units_that_are_no_pixels_have_no_polygons() -> None:
    places = places_of(bag(grid(2, 2, 1), coords_unit="tiles", patch_size=1.0))
    assert "coordinates are in 'tiles', not in level-0 pixels" in why_no_polygons(places)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("", "has no coordinates, so"),
        ("9 patches but 8 coordinates", r"cannot be used \(9 patches but 8 coordinates\)"),
    ],
)
def test_a_slide_without_usable_coordinates_is_refused_with_the_reason(problem: str, message: str) -> None:
    with pytest.raises(DataError, match=f"slide 's'.*{message}.*Extract it again"):
        places_of(Bag(torch.zeros(9, 3), "s", coords_problem=problem))


def test_patches_at_one_place_are_not_drawn_over_each_other() -> None:
    with pytest.raises(DataError, match="slide 's' has all its 3 patches at one place"):
        places_of(bag(np.full((3, 2), 256)))
    assert places_of(bag(np.full((1, 2), 256)), 256).patch_size == 256
