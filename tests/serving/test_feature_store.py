"""FeatureStore: in order, in the stored dtype; what stays is decided by sizes and order."""

import random
import time
from pathlib import Path

import pytest
import torch
from folders_for_tests import make_folder_cohort
from stores_for_tests import CPU, META, SLIDES, Loads, bag, store_of, threads, until
from torch import Tensor

from milbench.cohorts.cohort import folder_cohort
from milbench.cohorts.cohort_file import cohort_file
from milbench.intake.pack import pack
from milbench.serving.read_ahead import AHEAD

# ---- order and values ----------------------------------------------------------------------------


@pytest.mark.parametrize("host_bytes", [0, 100, 10_000])
def test_every_slide_comes_in_order_with_its_own_features(host_bytes: int) -> None:
    store = store_of(Loads(), host_bytes=host_bytes)
    for _ in range(3):
        given = [(slide, bag.features[0, 0].item()) for slide, bag in store.in_order(SLIDES)]
        assert given == [(slide, float(slide[1:])) for slide in SLIDES]


def test_a_slide_may_be_asked_for_twice_in_one_pass() -> None:
    wanted = ["s1", "s1", "s2", "s1", "s2"]
    for host_bytes in (0, 32, 1000):
        given = list(store_of(Loads(), host_bytes=host_bytes).in_order(wanted))
        assert [(slide, bag.features[0, 0].item()) for slide, bag in given] == [(s, float(s[1:])) for s in wanted]


def test_a_pass_over_nothing_starts_no_thread() -> None:
    assert list(store_of(Loads()).in_order([])) == []
    assert threads() == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("host_bytes", [0, 10_000])
def test_features_keep_their_stored_dtype(dtype: torch.dtype, host_bytes: int) -> None:
    store = store_of(lambda slide: bag(slide).to(dtype), host_bytes=host_bytes)
    assert store["s1"].features.dtype == dtype
    assert {bag.features.dtype for _, bag in store.in_order(SLIDES)} == {dtype}


@pytest.mark.parametrize("kind", ["h5", "pack"])
def test_files_come_through_as_their_cohort_loads_them(tmp_path: Path, kind: str) -> None:
    folder = make_folder_cohort(tmp_path / "toy", n_patients=10)
    if kind == "pack":
        folder = pack(cohort_file(folder), tmp_path / "packed", "float16", lambda slides, *_: slides).cohort
    cohort = folder_cohort(folder)
    slides = cohort.slides["slide_id"].tolist()
    store = store_of(lambda slide: cohort.load(slide).features, host_bytes=500)
    for _ in range(2):
        for slide, patches in store.in_order(slides):
            assert torch.equal(patches.features, cohort.load(slide).features)


# ---- what stays ----------------------------------------------------------------------------------


def test_what_stays_is_loaded_once_and_what_does_not_each_time() -> None:
    load = Loads()
    store = store_of(load, host_bytes=3 * 32)
    for _ in range(3):
        list(store.in_order(SLIDES))
    assert [load.seen.count(slide) for slide in SLIDES] == [1, 1, 1, 3, 3, 3, 3, 3]


def test_a_bag_too_large_for_what_is_left_makes_room_for_a_smaller_later_one() -> None:
    load = Loads({"s0": 4, "s1": 100, "s2": 2})
    store = store_of(load, host_bytes=4 * 8 + 2 * 8)
    for _ in range(2):
        list(store.in_order(["s0", "s1", "s2"]))
    assert [load.seen.count(slide) for slide in ("s0", "s1", "s2")] == [1, 2, 1]


def test_bags_read_ahead_but_never_handed_out_take_no_room() -> None:
    load = Loads()
    store = store_of(load, host_bytes=3 * 32)
    passing = store.in_order(SLIDES)
    next(passing)
    assert until(lambda: len(load.seen) == 1 + AHEAD)
    passing.close()
    for slide in ("s7", "s6", "s5"):
        store[slide]
    load.seen.clear()
    for slide in SLIDES:
        store[slide]
    assert load.seen == ["s1", "s2", "s3", "s4", "s5"]


def test_what_stays_does_not_depend_on_timing() -> None:
    rows = {slide: 1 + 7 * i % 5 for i, slide in enumerate(SLIDES)}
    wait = random.Random(0)

    def stays(slow: float) -> list[str]:
        load = Loads(rows)

        def late(slide_id: str) -> Tensor:
            time.sleep(wait.random() * slow)
            return load(slide_id)

        store = store_of(late, host_bytes=90)
        for slide, _ in store.in_order(SLIDES):
            time.sleep(wait.random() * slow)
            store[random.Random(slide).choice(SLIDES)]
        load.seen.clear()
        for slide in SLIDES:
            store[slide]
        return [slide for slide in SLIDES if slide not in load.seen]

    assert len({tuple(stays(slow)) for slow in (0, 0.001, 0.004, 0.001)}) == 1
    assert 0 < len(stays(0)) < len(SLIDES)


def test_the_device_is_filled_before_memory() -> None:
    load = Loads()
    store = store_of(load, device=META, device_bytes=2 * 32, host_bytes=3 * 32)
    for _ in range(2):
        assert {bag.features.device for _, bag in store.in_order(SLIDES)} == {META}
    assert list(store.near.kept) == SLIDES[:2]
    assert list(store.host.kept) == SLIDES[2:5]
    assert {bag.features.device for bag in store.host.kept.values()} == {CPU}
    assert [load.seen.count(slide) for slide in SLIDES] == [1] * 5 + [2] * 3


def test_without_a_gpu_all_that_may_stay_is_memory() -> None:
    load = Loads()
    store = store_of(load, device_bytes=2 * 32, host_bytes=3 * 32)
    for _ in range(2):
        list(store.in_order(SLIDES))
    assert [load.seen.count(slide) for slide in SLIDES] == [1] * 5 + [2] * 3


def test_a_kept_bag_is_a_copy_of_its_own_and_no_view_of_a_file() -> None:
    whole = torch.zeros(100, 2)
    store = store_of(lambda _: whole[:4], host_bytes=1000)
    assert store["s0"].features.untyped_storage().nbytes() == 32
    list(store.in_order(["s1"]))
    whole += 1
    assert not store["s1"].features.any()


def test_kept_bags_need_no_thread() -> None:
    store = store_of(Loads(), host_bytes=10_000)
    list(store.in_order(SLIDES))
    for _ in store.in_order(SLIDES):
        assert threads() == []
