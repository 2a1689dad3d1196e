"""FeatureStore's reading ahead: within bounds, errors where they are due, and no thread left behind."""

import gc
import threading
import time
from pathlib import Path

import pytest
import torch
from folders_for_tests import make_folder_cohort
from stores_for_tests import SLIDES, WAIT, Loads, bag, store_of, threads, until
from torch import Tensor

from milbench.cohorts.cohort import folder_cohort
from milbench.errors import FeatureFileError
from milbench.serving.read_ahead import AHEAD


def test_the_next_bags_are_read_while_the_consumer_works() -> None:
    started = {slide: threading.Event() for slide in SLIDES}

    def load(slide_id: str) -> Tensor:
        started[slide_id].set()
        return bag(slide_id)

    for slide, _ in store_of(load).in_order(SLIDES):
        later = SLIDES[SLIDES.index(slide) + 1 :][:AHEAD]
        assert all(started[name].wait(WAIT) for name in later)  # while this slide is still being worked on


def test_a_slow_read_goes_on_while_the_consumer_works() -> None:
    working, reading = threading.Event(), threading.Event()

    def load(slide_id: str) -> Tensor:
        if slide_id == "s1":
            reading.set()
            assert working.wait(WAIT)  # this read cannot end before the consumer works on s0
        return bag(slide_id)

    for slide, patches in store_of(load).in_order(SLIDES[:3]):
        if slide == "s0":
            assert reading.wait(WAIT)
            working.set()
        assert patches.features[0, 0].item() == float(slide[1:])


def test_reads_go_side_by_side() -> None:
    both = threading.Barrier(AHEAD)

    def load(slide_id: str) -> Tensor:
        if slide_id in SLIDES[1 : 1 + AHEAD]:
            both.wait(WAIT)  # none of these reads ends before all of them have begun
        return bag(slide_id)

    assert [slide for slide, _ in store_of(load).in_order(SLIDES)] == SLIDES


def test_no_more_bags_are_read_ahead_than_allowed() -> None:
    load = Loads()
    for n_given, _ in enumerate(store_of(load).in_order(SLIDES), start=1):
        expected = min(n_given + AHEAD, len(SLIDES))
        assert until(lambda n=expected: len(load.seen) == n)
        time.sleep(0.01)  # time to go too far
        assert len(load.seen) == expected


def test_no_more_bags_are_in_memory_than_those_ahead_and_the_consumers_own() -> None:
    alive: list[int] = []
    lock = threading.Lock()
    n_alive = 0

    class Counted(torch.Tensor):
        def __del__(self) -> None:
            nonlocal n_alive
            with lock:
                n_alive -= 1

    def load(slide_id: str) -> Tensor:
        nonlocal n_alive
        with lock:
            n_alive += 1
        return bag(slide_id).as_subclass(Counted)

    for _slide, patches in store_of(load).in_order(SLIDES):
        time.sleep(0.01)
        alive.append(n_alive)
        del patches
    assert max(alive) == AHEAD + 1
    assert until(lambda: n_alive == 0)


# ---- errors and early ends -----------------------------------------------------------------------


def test_an_error_is_raised_at_the_slide_that_caused_it() -> None:
    def load(slide_id: str) -> Tensor:
        if slide_id == "s3":
            raise FeatureFileError("s3.pt is damaged.")
        return bag(slide_id)

    given = []
    bags = store_of(load, host_bytes=10_000).in_order(SLIDES)
    with pytest.raises(FeatureFileError, match=r"s3\.pt is damaged"):
        given.extend(slide for slide, _ in bags)
    assert given == SLIDES[:3]
    assert threads() == []


def test_a_damaged_file_is_named_where_it_is_due(tmp_path: Path) -> None:
    folder = make_folder_cohort(tmp_path / "toy", n_patients=6)
    cohort = folder_cohort(folder)
    slides = cohort.slides["slide_id"].tolist()
    (folder / "features" / f"{slides[2]}.h5").write_bytes(b"no HDF5")
    passing = store_of(lambda slide: cohort.load(slide).features).in_order(slides)
    assert [next(passing)[0], next(passing)[0]] == slides[:2]
    with pytest.raises(FeatureFileError, match=slides[2]):
        next(passing)


def test_a_store_is_of_use_after_an_error() -> None:
    broken = {"s2"}

    def load(slide_id: str) -> Tensor:
        if slide_id in broken:
            raise OSError("the disk is away")
        return bag(slide_id)

    store = store_of(load, host_bytes=64)
    with pytest.raises(OSError, match="the disk is away"):
        list(store.in_order(SLIDES))
    broken.clear()
    assert [slide for slide, _ in store.in_order(SLIDES)] == SLIDES


def test_break_ends_the_threads() -> None:
    for slide, _ in store_of(Loads()).in_order(SLIDES):
        if slide == "s1":
            break
    assert threads() == []


def test_an_exception_of_the_consumer_ends_the_threads() -> None:
    def consume() -> None:
        for slide, _ in store_of(Loads()).in_order(SLIDES):
            if slide == "s1":
                raise ValueError("the loss is NaN")

    with pytest.raises(ValueError, match="the loss is NaN"):
        consume()
    assert until(lambda: not threads())


def test_an_iterator_that_is_dropped_ends_the_threads() -> None:
    passing = store_of(Loads()).in_order(SLIDES)
    next(passing)
    assert threads()
    del passing
    assert threads() == []


@pytest.mark.slow
def test_an_iterator_in_a_cycle_is_collected_wherever_the_collector_runs() -> None:
    load = Loads()

    def collecting(slide_id: str) -> Tensor:
        gc.collect()  # in the thread that reads
        return load(slide_id)

    gc.disable()
    try:
        cycle: list[object] = []
        passing = store_of(collecting).in_order(SLIDES)
        cycle += [cycle, passing]
        next(passing)
        del passing, cycle
        # more than once: while a collection runs, and in a process of many modules that is long, another is none
        assert until(lambda: bool(list(store_of(collecting).in_order(SLIDES))) and not threads())
    finally:
        gc.enable()


def test_after_an_early_end_nothing_more_is_read() -> None:
    inside, go_on = threading.Semaphore(0), threading.Event()
    seen = []

    def load(slide_id: str) -> Tensor:
        seen.append(slide_id)
        if slide_id != "s0":
            inside.release()
            assert go_on.wait(WAIT)
        return bag(slide_id)

    passing = store_of(load).in_order(SLIDES)
    next(passing)
    for _ in range(AHEAD):
        assert inside.acquire(timeout=WAIT)
    threading.Timer(0.05, go_on.set).start()
    passing.close()
    assert threads() == []
    assert sorted(seen) == SLIDES[: 1 + AHEAD]


def test_two_passes_at_once_do_not_mix() -> None:
    store = store_of(Loads(), host_bytes=3 * 32)
    both = zip(store.in_order(SLIDES), store.in_order(SLIDES[::-1]), strict=True)
    for expected, (first, second) in zip(zip(SLIDES, SLIDES[::-1], strict=True), both, strict=True):
        assert (first[0], second[0]) == expected
        assert [each[1].features[0, 0].item() for each in (first, second)] == [float(slide[1:]) for slide in expected]


def test_pt_files_are_read_by_two_threads_at_once(tmp_path: Path) -> None:
    """NumPy arrays in .pt files need types to be allowed, which is the process's, not the thread's."""
    (tmp_path / "features").mkdir()
    for slide in SLIDES:
        torch.save(bag(slide, 50).numpy(), tmp_path / "features" / f"{slide}.pt")
    labels = "".join(f"p{slide},{slide},{i % 2}\n" for i, slide in enumerate(SLIDES))
    (tmp_path / "labels.csv").write_text(f"case_id,slide_id,A\n{labels}")
    cohort = folder_cohort(tmp_path)
    store = store_of(lambda slide: cohort.load(slide).features)
    for _ in range(20):
        for (_, one), (_, other) in zip(store.in_order(SLIDES), store.in_order(SLIDES), strict=True):
            assert torch.equal(one.features, other.features)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell which pages are in memory")
def test_a_packs_pages_are_read_where_it_is_loaded(tmp_path: Path) -> None:
    """What the thread loads costs the consumer no page faults: the check of its values touched every page."""
    from safetensors.torch import save_file

    (tmp_path / "features").mkdir()
    save_file({"features": torch.randn(1000, 1024)}, tmp_path / "features" / "s0.safetensors")
    (tmp_path / "labels.csv").write_text("case_id,slide_id,A\np0,s0,1\n")
    cohort = folder_cohort(tmp_path)
    (_, patches), *_ = store_of(lambda slide: cohort.load(slide).features).in_order(["s0"])
    entry = Path("/proc/self/smaps").read_text().split("s0.safetensors")[1]
    resident = next(int(line.split()[1]) * 1024 for line in entry.splitlines() if line.startswith("Rss:"))
    assert resident >= patches.nbytes
