"""Layout: places in patches, and nearest patches against brute force."""

import numpy as np
import pytest
import torch

from milbench.bag import Bag
from milbench.cohorts.patient_bags import joined
from milbench.errors import DataError
from milbench.layout import FARTHEST, PARTS, Patches, layout_of, nearest, patches_of


def brute_force(places: np.ndarray, k: int) -> np.ndarray:
    """Neighbours by all distances: itself, then by distance, then by (y, x), then by number."""
    marks = np.round(places * PARTS).astype(np.int64)
    rows = []
    for i, mark in enumerate(marks):
        distance = ((marks - mark) ** 2).sum(axis=1)
        order = np.lexsort((np.arange(len(marks)), marks[:, 0], marks[:, 1], distance))
        rows.append([i, *(j for j in order if j != i)][: min(k, len(marks))])
    return np.array(rows)


def grid(n: int, seed: int = 0) -> np.ndarray:
    """Places of n patches on a part of a grid, in random order."""
    random = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(1.4 * n)))
    cells = random.permutation(side * side)[:n]
    return np.stack([cells % side, cells // side], axis=1).astype(float)


@pytest.mark.parametrize("n", [1, 2, 5, 60, 300])
@pytest.mark.parametrize("k", [1, 4, 16, 64])
def test_neighbours_on_a_grid_full_of_ties_are_those_of_brute_force(n: int, k: int) -> None:
    places = grid(n, seed=n)
    assert np.array_equal(nearest(places, k), brute_force(places, k))


@pytest.mark.parametrize("k", [1, 3, 16, 40])
def test_neighbours_at_random_places_and_at_doubled_places_are_those_of_brute_force(k: int) -> None:
    random = np.random.default_rng(1)
    places = random.random((80, 2)) * 30
    assert np.array_equal(nearest(places, k), brute_force(places, k))
    doubled = np.concatenate([places, places[:30], places[:10]])
    assert np.array_equal(nearest(doubled, k), brute_force(doubled, k))


def test_all_patches_at_one_place_have_neighbours_each_with_itself_first() -> None:
    found = nearest(np.zeros((50, 2)), 8)
    assert found[:, 0].tolist() == list(range(50))
    assert all(len(set(row)) == 8 for row in found.tolist())


def test_neighbours_do_not_depend_on_the_order_of_patches_in_the_file() -> None:
    places = grid(200)
    order = np.random.default_rng(2).permutation(200)
    before, after = nearest(places, 16), nearest(places[order], 16)
    assert np.array_equal(order[after], before[order])


def bag(coords: torch.Tensor | None, name: str = "s1", **facts: object) -> Bag:
    n = 4 if coords is None else len(coords)
    return Bag(torch.zeros(n, 3), name, "p", coords=coords, **facts)


def test_coordinates_are_in_patches_from_the_top_left_one() -> None:
    coords = torch.tensor([[5120, 300], [5376, 300], [5120, 812]])
    for facts in ({"patch_size": 256.0}, {}):
        layout = layout_of(bag(coords, **facts), 2)
        assert layout.coords.tolist() == [[0, 0], [1, 0], [0, 2]]
        assert layout.coords.dtype == torch.float32
        assert layout.neighbours.tolist() == [[0, 1], [1, 0], [2, 0]]


def test_the_slides_of_a_patient_lie_apart_each_in_its_own_patches() -> None:
    one = bag(torch.tensor([[0, 0], [224, 0], [0, 224]]), "s1", patch_size=224.0)
    two = bag(torch.tensor([[9000, 0], [9512, 0], [9000, 512]]), "s2", patch_size=512.0)
    layout = layout_of(joined("p", [one, two]), 3)
    own = [set(row) for row in layout.neighbours.tolist()]
    assert own == [{0, 1, 2}] * 3 + [{3, 4, 5}] * 3
    step = layout.coords[3:] - layout.coords[3]
    assert step.tolist() == [[0, 0], [1, 0], [0, 1]]


def test_a_slide_without_coordinates_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"slide 's7' .* it has no coordinates"):
        layout_of(bag(None, "s7"), 4)
    with pytest.raises(DataError, match=r"slide 's8' .* cannot be used \(4 patches but 3 coordinates\)"):
        layout_of(bag(None, "s8", coords_problem="4 patches but 3 coordinates"), 4)


def test_a_slide_with_one_place_for_all_patches_is_refused() -> None:
    with pytest.raises(DataError, match=r"slide 's9' .* all its 3 patches lie at one place"):
        layout_of(bag(torch.tensor([[512, 512]] * 3), "s9"), 4)
    assert layout_of(bag(torch.tensor([[512, 512]]), "s9"), 4).neighbours.tolist() == [[0]]


@pytest.mark.parametrize("patch_size", [1e-6, -256.0, float("nan")])
def test_a_slide_wider_than_any_is_refused_because_its_patch_size_must_be_wrong(patch_size: float) -> None:
    """Squares of such distances are no whole numbers of 64 bits any more, and neighbours would be arbitrary."""
    coords = torch.tensor([[0, 0], [256, 0], [512, 0], [100_000, 0]])
    with pytest.raises(DataError, match=r"slide 's' cannot go .* more than any slide does.*`patch_size:`"):
        layout_of(Bag(torch.ones(4, 2), "s", coords=coords, patch_size=patch_size), 2)


def test_the_widest_slide_has_the_neighbours_of_brute_force() -> None:
    places = np.random.default_rng(2).random((40, 2)) * FARTHEST
    assert np.array_equal(nearest(places, 5), brute_force(places, 5))


def test_some_patches_keep_their_places_and_get_neighbours_among_themselves() -> None:
    random = np.random.default_rng(0)
    coords = torch.from_numpy(random.permutation(400)[:90].reshape(45, 2)) * 256
    patches = patches_of(bag(coords, patch_size=256.0), 6)
    index = torch.tensor([3, 8, 9, 20, 31, 44, 2])
    some = patches.rows(index)
    assert some.layout is not None
    assert patches.layout is not None
    assert torch.equal(some.layout.coords, patches.layout.coords[index])
    assert np.array_equal(some.layout.neighbours, brute_force(some.layout.coords.numpy().astype(float), 6))
    assert torch.equal(some.features, patches.features[index])
    assert Patches(patches.features).rows(index).layout is None


def test_memory_and_changes_are_those_of_all_tensors() -> None:
    patches = patches_of(bag(torch.tensor([[0, 0], [256, 0]]), patch_size=256.0), 2)
    assert patches.nbytes == 2 * 3 * 4 + 2 * 2 * 4 + 2 * 2 * 4
    copied = patches.each(torch.clone)
    assert all(torch.equal(a, b) and a is not b for a, b in zip(copied.tensors, patches.tensors, strict=True))
