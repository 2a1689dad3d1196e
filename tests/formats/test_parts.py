"""Parts: each is worked on once, by few threads, and nothing is still at work after an error."""

import threading
import time
from pathlib import Path

import pytest

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


def test_the_caller_takes_what_no_thread_has_begun() -> None:
    by: dict[int, threading.Thread] = {}
    has_both = threading.Event()

    def work(part: int) -> None:
        by[part] = threading.current_thread()
        if len(set(by.values())) == 2:
            has_both.set()
        assert has_both.wait(30)

    in_threads(work, range(20), 2)
    assert by[0] is not threading.current_thread()
    assert by[19] is threading.current_thread()


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
