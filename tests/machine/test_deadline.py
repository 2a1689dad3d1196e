"""Waiting ends."""

import threading
import time

import pytest

from milbench.machine.deadline import Deadline, within


def test_a_deadline_counts_down_to_nothing() -> None:
    deadline = Deadline(0.05)
    assert 0 < deadline.left() <= 0.05
    assert not deadline.has_passed()
    time.sleep(0.06)
    assert deadline.left() == 0
    assert deadline.has_passed()


def test_work_that_ends_in_time_gives_its_result_or_its_error() -> None:
    assert within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


def test_work_that_does_not_end_is_left_alone() -> None:
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no end after 0\.05 s"):
        within(0.05, release.wait)
    assert time.monotonic() - began < 2
    release.set()
