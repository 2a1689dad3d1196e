"""The work clock: it goes as fast as the mean running pass computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from milbench.runs.work_clock import LEAST_SHARE, WorkClock


def readings(*values: float | None) -> Iterator[float | None]:
    yield from values


def test_a_clock_that_cannot_tell_is_one_of_the_wall() -> None:
    clock = WorkClock(100.0)
    assert clock.read(107.0, 2) == pytest.approx(7.0)
    assert clock.share == 1.0


def test_two_passes_on_one_core_are_at_half_speed() -> None:
    said = readings(50.0, 51.0, 54.0, 54.0)
    clock = WorkClock(0.0, lambda: next(said))
    assert clock.read(1.0, 2) == pytest.approx(0.5)
    assert clock.read(4.0, 2) == pytest.approx(2.0)
    assert clock.share == pytest.approx(0.5)
    assert clock.read(4.1, 2) == pytest.approx(2.05), "so soon nothing is read"


def test_the_share_follows_the_load() -> None:
    said = readings(0.0, *(float(second) for second in range(1, 21)), *(20 + second / 4 for second in range(1, 41)))
    clock = WorkClock(0.0, lambda: next(said))
    for second in range(1, 21):
        clock.read(second, 1)
    assert clock.share == pytest.approx(1.0)
    for second in range(21, 61):
        clock.read(second, 1)
    assert clock.share == pytest.approx(0.25, abs=0.02)
    assert clock.seconds == pytest.approx(30.0)


def test_a_worker_that_dies_takes_no_time_back() -> None:
    said = readings(0.0, 2.0, 1.0, 2.0)
    clock = WorkClock(0.0, lambda: next(said))
    assert [clock.read(second, 1) for second in (2.0, 3.0, 4.0)] == pytest.approx([2.0, 3.0, 4.0])


def test_the_share_is_never_nothing() -> None:
    said = readings(0.0, 0.0)
    clock = WorkClock(0.0, lambda: next(said))
    clock.read(5.0, 1)
    assert clock.share == LEAST_SHARE
