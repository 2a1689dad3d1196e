"""Depth: as many bags are read ahead as hide the reading, and no result knows how many."""

import random
import time

import pytest
import torch
from stacks_for_tests import SLIDES as TRAINED_ON
from stacks_for_tests import InMemory, learner, model_of, trained
from stores_for_tests import Loads, bag, store_of, until
from torch import Tensor

from milbench.layout import Patches
from milbench.serving.read_ahead import AHEAD, MOST_AHEAD, WINDOW, Depth
from milbench.trials.recipe import Recipe

READ, STEP = 0.05, 0.01
MANY = [f"s{i}" for i in range(60)]
ROOM = 10**9


def deep(load: object, **more: int) -> object:
    return store_of(load, most_ahead=MOST_AHEAD, ahead_bytes=ROOM, **more)  # type: ignore[arg-type]


def simulated(depth: Depth, read: float, step: float, *, at_once: float = 1000, n_bags: int = 400) -> None:
    """Bags that take `read` seconds each, of which no more than `at_once` go on side by side."""
    for _ in range(n_bags):
        waited = max(0.0, read / min(depth.now, at_once) - step)
        depth.note(waited=waited, worked=step)


@pytest.mark.parametrize(
    ("read", "step", "expected"), [(0.05, 0.01, 8), (0.01, 0.01, 2), (0.03, 0.01, 4), (1, 0.01, 16)]
)
def test_as_many_bags_are_read_ahead_as_hide_the_reading(read: float, step: float, expected: int) -> None:
    depth = Depth(MOST_AHEAD, ROOM)
    simulated(depth, read, step)
    assert depth.now == expected


def test_where_more_threads_gain_nothing_there_are_no_more_of_them() -> None:
    """A busy disk or core: the consumer waits, however many bags are asked for."""
    depth, seen = Depth(MOST_AHEAD, ROOM), []
    for _ in range(1000):
        simulated(depth, 0.05, 0.01, at_once=AHEAD, n_bags=1)
        seen.append(depth.now)
    assert max(seen) == 2 * AHEAD  # tried
    assert seen.count(AHEAD) > 0.8 * len(seen)


def test_steps_that_take_longer_for_a_while_do_not_take_the_threads_back() -> None:
    """Validation waits, and the training that follows does not, since its steps are longer."""
    depth = Depth(MOST_AHEAD, ROOM)
    for _ in range(10):
        simulated(depth, 0.05, 0.01, n_bags=WINDOW)
        simulated(depth, 0.05, 0.08, n_bags=5 * WINDOW)
    assert depth.now == 8


def test_no_more_bags_than_stated_are_read_ahead() -> None:
    depth = Depth(5, ROOM)
    simulated(depth, 10, 0.01)
    assert depth.now == 5


def test_bags_ahead_stay_within_their_room_as_soon_as_sizes_are_known() -> None:
    depth = Depth(MOST_AHEAD, room=250, now=MOST_AHEAD)
    assert not depth.allows(["a", "b"], "c")  # nothing was read yet
    depth.sizes.update(a=100, b=100, c=100, large=200)
    assert depth.allows(["a", "b"], "c")
    assert depth.allows(["a", "b", "c"], "large")
    assert not depth.allows(["a", "b", "c", "a"], "c")
    assert not depth.allows(
        ["a", "b", "c", "large"], "unknown"
    )  # as large as the largest yet; the two largest are the step's


def test_the_first_bags_are_read_ahead_whatever_room_there_is() -> None:
    depth = Depth(AHEAD, 0)
    assert depth.allows(["a"] * (AHEAD - 1), "b")
    assert not depth.allows(["a"] * AHEAD, "b")


def test_slow_reads_are_hidden_behind_steps() -> None:
    """Reads of 50 ms and steps of 10 ms, as on a network file system: the second pass costs little more than their steps."""

    def load(slide_id: str) -> Tensor:
        time.sleep(READ)
        return bag(slide_id)

    store = deep(load)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        for slide, patches in store.in_order(MANY):
            assert patches.features[0, 0].item() == float(slide[1:])
            time.sleep(STEP)
        seconds.append(time.perf_counter() - started)
    two_ahead = len(MANY) * READ / AHEAD
    assert seconds[1] < 0.75 * two_ahead  # 0.7 s on a quiet machine, where steps alone take 0.6 s and two ahead 1.5 s
    assert store.depth.now > AHEAD


def test_bags_ahead_are_counted_and_bounded_by_bytes() -> None:
    load = Loads()
    store = store_of(load, most_ahead=MOST_AHEAD, ahead_bytes=3 * 32 + 31)  # three more bags of 32 bytes
    store.depth.now = MOST_AHEAD
    for n_given, _ in enumerate(store.in_order(MANY[:20]), start=1):
        expected = min(n_given + AHEAD + 3, 20)
        assert until(lambda n=expected: len(load.seen) >= n)
        time.sleep(0.002)
        assert len(load.seen) == expected


def test_a_bag_that_waits_and_is_larger_than_all_before_counts_for_those_that_follow() -> None:
    rows = {slide: 4 if i < 2 else 400 for i, slide in enumerate(MANY)}
    load = Loads(rows)
    store = store_of(load, most_ahead=MOST_AHEAD, ahead_bytes=4000)  # one of the large bags, or all of the small
    store.depth.now = AHEAD + 1
    bags = store.in_order(MANY)
    next(bags)
    assert until(lambda: len(load.seen) == 1 + AHEAD + 1)
    time.sleep(0.05)
    store.depth.now = MOST_AHEAD
    next(bags)
    time.sleep(0.05)
    assert len(load.seen) == 2 + AHEAD + 1
    bags.close()


def test_what_stays_does_not_depend_on_how_many_are_read_ahead() -> None:
    rows = {slide: 1 + 7 * i % 5 for i, slide in enumerate(MANY)}

    def stays(most_ahead: int) -> list[str]:
        wait, load = random.Random(most_ahead), Loads(rows)

        def late(slide_id: str) -> Tensor:
            time.sleep(wait.random() * 0.003)
            return load(slide_id)

        store = store_of(late, host_bytes=400, most_ahead=most_ahead, ahead_bytes=ROOM)
        store.depth.now = most_ahead
        for _ in range(2):
            assert [slide for slide, _ in store.in_order(MANY)] == MANY
        return sorted(store.host.kept)

    assert stays(AHEAD) == stays(7) == stays(MOST_AHEAD)


def test_training_ends_in_the_same_bits_however_slow_the_reads_are() -> None:
    memory = InMemory()

    class Remote:
        """The same bags, each read late."""

        def __init__(self, seconds: float) -> None:
            self.seconds, self.deepest = seconds, 0
            self.store = deep(self.load)

        def load(self, slide_id: str) -> Tensor:
            time.sleep(self.seconds)
            return memory.bags[slide_id]

        def in_order(self, slide_ids: list[str]) -> object:
            for slide_id, patches in self.store.in_order(slide_ids):
                self.deepest = max(self.deepest, self.store.depth.now)
                yield slide_id, Patches(patches.features, None)

    def weights(features: object) -> list[Tensor]:
        (done,) = trained(learner([0], model_of("amil"), Recipe(epochs=3)), features=features)  # type: ignore[arg-type]
        return [value for model in done.models for value in model.state_dict().values()]

    expected = weights(memory)
    for seconds in (0.0, 0.004):
        features = Remote(seconds)
        assert all(torch.equal(*pair) for pair in zip(weights(features), expected, strict=True))
    assert features.deepest > AHEAD  # at times: a busy machine makes it no faster, and then there are fewer again
    assert 3 * len(TRAINED_ON) > 2 * WINDOW
