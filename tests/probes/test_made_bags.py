"""Made bags show what their test says, and the best possible reader answers them."""

import numpy as np
import pytest

from milbench.metrics.binary import auroc_per_task
from milbench.probes.catalogue import PROBES
from milbench.probes.made_bags import MARKER, PARTS, POISON, SECOND, WIDTH, MadeBag, World, adjacent_pairs, grid
from milbench.probes.probe import Part, Probe

NAMES = ["presence", "both", "frequency", "count", "share", "neighbours", "order", "rare", "size", "noise", "tasks"]


def shown(probe: Probe, seed: int, part: str, concept: int) -> tuple[Part, np.ndarray]:
    """The part, and how many patches of each bag show the concept."""
    bags = probe.part(part, seed)
    world = World(probe.name, seed, part)
    return bags, np.array([world.shows(bag, concept).sum() for bag in bags.bags])


def test_the_tests_stand_in_the_order_of_the_tables() -> None:
    assert list(PROBES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_best_possible_reader_answers_almost_all_bags_and_one_seed_gives_the_same_bits(name: str) -> None:
    test = PROBES[name].part("test", 1)
    again = PROBES[name].part("test", 1)
    assert auroc_per_task(test.labels, test.best).min() > 0.97
    assert all(np.array_equal(one.features, other.features) for one, other in zip(test.bags, again.bags, strict=True))
    assert np.array_equal(test.labels, again.labels)


@pytest.mark.parametrize("name", NAMES)
def test_bags_are_float32_with_one_place_per_patch_and_half_of_them_are_positive(name: str) -> None:
    part = PROBES[name].part("validation", 0)
    for bag in part.bags:
        assert bag.features.dtype == bag.coords.dtype == np.float32
        assert bag.features.shape == (len(bag.coords), WIDTH)
        assert len(np.unique(bag.coords, axis=0)) == len(bag.coords)
    if not PROBES[name].flipped:
        assert part.labels[:, 0].mean() == 0.5


def test_parts_and_seeds_share_no_bag_and_parts_of_a_seed_share_their_directions() -> None:
    firsts = [PROBES["presence"].part(part, seed).bags[0].features for part in PARTS for seed in (0, 1)]
    assert len({bag.tobytes() for bag in firsts}) == len(firsts)
    directions = [World("presence", 0, part).directions for part in PARTS]
    assert np.array_equal(directions[0], directions[2])
    assert np.allclose(directions[0] @ directions[0].T, np.eye(WIDTH))
    assert not np.allclose(directions[0], World("presence", 1, "train").directions)


def test_poison_stands_in_training_negatives_and_in_test_positives() -> None:
    for part, poisoned in (("train", 0), ("validation", 0), ("test", 1)):
        bags, poison = shown(PROBES["presence"], 0, part, POISON)
        assert ((poison > 0) == (bags.labels[:, 0] == poisoned)).mean() > 0.97


def test_two_concepts_are_as_many_special_patches_as_one_of_them() -> None:
    bags, first = shown(PROBES["both"], 0, "train", MARKER)
    _, second = shown(PROBES["both"], 0, "train", SECOND)
    positive = bags.labels[:, 0] == 1
    total = first + second
    assert abs(total[positive].mean() - total[~positive].mean()) < 0.4
    assert (np.minimum(first, second)[~positive] == 0).mean() > 0.9


def test_the_number_of_special_patches_tells_the_label_in_training_and_the_opposite_at_test_time() -> None:
    for part, is_trap in (("train", False), ("test", True)):
        bags, first = shown(PROBES["frequency"], 0, part, MARKER)
        _, second = shown(PROBES["frequency"], 0, part, SECOND)
        auroc = auroc_per_task(bags.labels, (first + second)[:, None])[0]
        assert auroc < 0.01 if is_trap else auroc > 0.99


def test_a_reader_of_shares_misses_counts_and_a_reader_of_counts_misses_shares() -> None:
    for name, reads_share in (("count", True), ("share", False)):
        bags, marked = shown(PROBES[name], 0, "test", MARKER)
        sizes = np.array([len(bag.features) for bag in bags.bags])
        wrong = marked / sizes if reads_share else marked
        assert 0.65 < auroc_per_task(bags.labels, wrong[:, None])[0] < 0.85


def test_marked_patches_touch_in_positive_bags_alone_and_are_as_many() -> None:
    bags, marked = shown(PROBES["neighbours"], 0, "train", MARKER)
    world = World("neighbours", 0, "train")
    pairs = np.array([adjacent_pairs(bag.coords, world.shows(bag, MARKER)) for bag in bags.bags])
    positive = bags.labels[:, 0] == 1
    assert pairs[positive].min() >= 5
    assert np.median(pairs[~positive]) == 0
    assert abs(marked[positive].mean() - marked[~positive].mean()) < 0.2


def test_the_order_of_the_file_tells_the_label_in_training_and_the_opposite_at_test_time() -> None:
    for part, sign in (("train", 1), ("test", -1)):
        bags = PROBES["order"].part(part, 0)
        world = World("order", 0, part)
        places = np.array([np.flatnonzero(world.shows(bag, SECOND)).mean() for bag in bags.bags])
        assert auroc_per_task(bags.labels, -sign * places[:, None])[0] > 0.98


def test_every_fifth_label_is_wrong_in_training_and_none_at_test_time() -> None:
    for part, wrong in (("train", 0.2), ("validation", 0.2), ("test", 0.0)):
        bags = PROBES["noise"].part(part, 0)
        asked = np.arange(len(bags.bags)) % 2
        assert (bags.labels[:, 0] != asked).mean() == wrong


def test_sizes_are_what_the_tests_say() -> None:
    sizes = {
        name: {len(bag.features) for bag in PROBES[name].part(part, 0).bags}
        for name, part in (("rare", "validation"), ("size", "test"), ("count", "train"))
    }
    assert sizes == {"rare": {2000}, "size": {200}, "count": {15, 75}}
    assert {len(bag.features) for bag in PROBES["size"].part("train", 0).bags} == {20}


def test_two_tasks_have_nothing_to_do_with_each_other() -> None:
    labels = PROBES["tasks"].part("train", 0).labels
    assert abs(np.corrcoef(labels.T)[0, 1]) < 0.2


def test_coordinates_are_rows_of_a_grid() -> None:
    assert grid(5, 3).tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1]]
    assert adjacent_pairs(grid(9, 3), np.array([True, True, False, False, False, False, False, False, True])) == 1


def test_concepts_lie_where_they_are_asked_for() -> None:
    world = World("any", 0, "train")
    bag = world.bag(40, {MARKER: 3}, places={SECOND: [0, 7]})
    assert isinstance(bag, MadeBag)
    assert np.flatnonzero(world.shows(bag, SECOND)).tolist() == [0, 7]
    assert world.shows(bag, MARKER).sum() == 3
