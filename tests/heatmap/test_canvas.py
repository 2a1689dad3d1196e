"""Painting: every patch on its own pixels, on any lattice, checked against painting one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from milbench.heatmap.canvas import Grid, grid_around, grid_over, paint
from milbench.heatmap.maps import scaled
from milbench.heatmap.places import Places


def one_by_one(places: Places, values: np.ndarray, grid: Grid) -> np.ndarray:
    """Mean over the patches that hold a pixel's centre, pixel by pixel."""
    pixels = np.full((grid.rows, grid.columns), np.nan)
    for row in range(grid.rows):
        for column in range(grid.columns):
            centre = (grid.left + (column + 0.5) * grid.step_x, grid.top + (row + 0.5) * grid.step_y)
            inside = ((places.corners <= centre) & (centre < places.corners + places.patch_size)).all(axis=1)
            if inside.any():
                pixels[row, column] = values[inside].mean()
    return pixels


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(12, 60), st.integers(0, 10**6))
def test_painting_equals_painting_patch_by_patch_also_where_patches_overlap(n: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = Places(rng.integers(0, 100, (n, 2)).astype(float), size)
    values = rng.standard_normal(n)
    grid = grid_over(163, 171, 21, 17)  # neither square nor a whole number of pixels
    np.testing.assert_allclose(paint(places, values, grid).pixels, one_by_one(places, values, grid), atol=1e-9)


def test_on_a_lattice_every_patch_is_a_whole_number_of_pixels() -> None:
    places = Places(np.array([[1000.0, 500.0], [1256.0, 500.0], [1256.0, 1268.0]]), 256)
    grid = grid_around(places, most_pixels=40)
    assert (grid.columns, grid.rows) == (20, 40)
    pixels = paint(places, np.array([1.0, 2.0, 3.0]), grid).pixels
    assert (pixels[:10, :10] == 1).all()
    assert (pixels[:10, 10:] == 2).all()
    assert (pixels[30:, 10:] == 3).all()
    assert np.isnan(pixels[10:30]).all()


def test_more_patches_than_pixels_are_averaged() -> None:
    places = Places(np.stack([np.arange(1000.0), np.zeros(1000)], axis=1), 1)
    pixels = paint(places, np.arange(1000.0), grid_around(places, most_pixels=100)).pixels
    assert pixels.shape == (1, 100)
    np.testing.assert_allclose(pixels[0], np.arange(4.5, 1000, 10), atol=1e-9)


def test_smoothing_keeps_a_flat_map_flat_and_never_leaves_the_tissue() -> None:
    places = Places(np.array([[0.0, 0.0], [10.0, 0.0], [30.0, 0.0]]), 10)
    grid = grid_around(places, most_pixels=40)
    plain, smooth = (paint(places, np.full(3, 0.7), grid, smooth=s).pixels for s in (0, 1))
    np.testing.assert_array_equal(np.isnan(plain), np.isnan(smooth))
    np.testing.assert_allclose(smooth[~np.isnan(smooth)], 0.7)


def test_smoothing_is_off_unless_asked_for() -> None:
    places = Places(np.array([[0.0, 0.0], [10.0, 0.0]]), 10)
    assert set(paint(places, np.array([0.0, 1.0]), grid_around(places)).pixels.ravel()) == {0.0, 1.0}


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50, unique=True))
def test_percentile_ranks_run_from_zero_to_one_in_the_order_of_the_values(values: list[float]) -> None:
    ranks = scaled(np.array(values), "rank")
    assert ranks.min() == 0
    assert ranks.max() == 1
    assert (np.argsort(ranks) == np.argsort(values)).all()


def test_equal_values_share_the_middle_rank_and_softmax_leaves_values_alone() -> None:
    assert (scaled(np.full(5, 3.0), "rank") == 0.5).all()
    values = np.array([0.2, 0.8])
    assert scaled(values, "softmax") is values
