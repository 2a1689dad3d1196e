"""Parts: each is worked on once, by few threads, and nothing is still at work after an error."""

import os
import threading
import time
from pathlib import Path

import pytest

from milbench.formats import parts
from milbench.formats.parts import LARGEST_KEPT, MOST_THREADS, fill, in_threads, scratch


@pytest.mark.parametrize("n_threads", [1, 2, 100])
@pytest.mark.parametrize("n_parts", [0, 1, 50])
def test_each_part_is_worked_on_once(n_threads: int, n_parts: int) -> None:
    done: list[int] = []
    names: set[str] = set()

    def work(part: int) -> None:
        names.add(threading.current_thread().name)
        done.append(part)

    in_threads(work, range(n_parts), n_threads)
    assert sorted(done) == list(range(n_parts))
    assert len(names) <= MOST_THREADS
    assert all(name.startswith("milbench-read") for name in names - {threading.current_thread().name})


def cores_of(n_threads: int) -> list[set[int]]:
    """Cores that each thread of a pool may use."""
    found: dict[int, set[int]] = {}
    all_here = threading.Barrier(n_threads)

    def work(_: int) -> None:
        found[threading.get_ident()] = os.sched_getaffinity(0)
        all_here.wait(30)

    in_threads(work, range(n_threads), n_threads)
    return list(found.values())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads have no cores of their own here")
@pytest.mark.parametrize("n_cores", [2, 3, 4, 5])
def test_no_two_threads_share_a_core_and_the_caller_keeps_its_own(
    n_cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, kept = os.sched_getaffinity(0), threading.local()

    def ask(_: int) -> set[int]:
        return getattr(kept, "cores", set(range(10, 10 + n_cores)))

    monkeypatch.setattr(parts, "_pool", None)
    monkeypatch.setattr(os, "sched_getaffinity", ask)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: setattr(kept, "cores", set(cores)))
    of_threads = cores_of(2)
    assert set.union(*of_threads) == ask(0)
    assert set.intersection(*of_threads) == set()
    assert not hasattr(kept, "cores"), "the caller was moved"
    monkeypatch.undo()
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads have no cores of their own here")
@pytest.mark.parametrize("fault", ["fewer cores than threads", "forbidden"])
def test_threads_run_anywhere_where_they_cannot_have_their_own_cores(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(_: int, __: object) -> None:
        raise PermissionError

    monkeypatch.setattr(parts, "_pool", None)
    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    cores = {0, 1} if fault == "forbidden" else {0}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    assert cores_of(2) == [cores, cores]


def test_an_error_is_raised_when_no_part_is_at_work_any_more() -> None:
    at_work: set[int] = set()

    def work(part: int) -> None:
        if part == 0:
            raise ValueError("the first one")
        at_work.add(part)
        time.sleep(0.05)
        at_work.remove(part)

    with pytest.raises(ValueError, match="the first one"):
        in_threads(work, range(20), 2)
    assert not at_work


def test_memory_is_kept_by_its_name_and_large_memory_is_not() -> None:
    one, other = scratch(100, "one"), scratch(100, "other")
    one[:], other[:] = bytes([1]) * 100, bytes([2]) * 100
    assert bytes(scratch(50, "one")) == bytes([1]) * 50
    large = scratch(LARGEST_KEPT + 1, "one")
    large[0] = 3
    assert scratch(1, "one")[0] == 1


def test_exactly_as_many_bytes_are_read_as_there_is_memory(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(100)))
    memory = memoryview(bytearray(10))
    with (tmp_path / "a").open("rb") as file:
        fill(file.fileno(), memory, 90)
        assert bytes(memory) == bytes(range(90, 100))
        with pytest.raises(EOFError, match="it ends too early"):
            fill(file.fileno(), memory, 91)
