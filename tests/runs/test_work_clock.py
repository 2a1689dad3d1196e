"""The work clock: it goes as fast as the mean running pass computes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import pytest

from milbench.runs import work_clock
from milbench.runs.work_clock import LEAST_SHARE, REMEMBERED_SECONDS, WorkClock, share_to_expect


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


def after(*phases: tuple[int, float]) -> WorkClock:
    """A clock of one pass that was read every second of phases: seconds of the wall, and the share of a core in them."""
    rates = [share for seconds, share in phases for _ in range(seconds)]
    said = readings(0.0, *accumulate(rates))
    clock = WorkClock(0.0, lambda: next(said))
    for second in range(1, len(rates) + 1):
        clock.read(second, 1)
    return clock


def test_the_share_follows_a_load_that_stays() -> None:
    clock = after((300, 1.0), (int(REMEMBERED_SECONDS), 0.25))
    assert clock.share == pytest.approx(0.25)
    assert clock.seconds == pytest.approx(300 + REMEMBERED_SECONDS / 4)


def test_the_start_of_the_workers_is_left_out_of_the_mean_as_far_as_five_seconds_remain() -> None:
    assert after((5, 0.2), (2, 1.0)).share == pytest.approx((3 * 0.2 + 2) / 5), "of five seconds at least"
    assert after((5, 0.2), (5, 1.0)).share == pytest.approx(1.0)


def test_a_load_that_comes_and_goes_is_a_mean() -> None:
    """Recorded on a machine that others used: shares of 0.15 to 0.47 over ten seconds, around a mean of 0.25."""
    for last in (0.15, 0.4):
        clock = after(*[(15, 0.15), (15, 0.4)] * 6, (10, last))
        assert clock.share == pytest.approx(0.275, abs=0.05)


def test_a_worker_that_dies_takes_no_time_back() -> None:
    said = readings(0.0, 2.0, 1.0, 2.0)
    clock = WorkClock(0.0, lambda: next(said))
    assert [clock.read(second, 1) for second in (2.0, 3.0, 4.0)] == pytest.approx([2.0, 3.0, 4.0])


def test_the_share_is_never_nothing() -> None:
    said = readings(0.0, 0.0)
    clock = WorkClock(0.0, lambda: next(said))
    clock.read(5.0, 1)
    assert clock.share == LEAST_SHARE


@pytest.mark.parametrize(
    ("load", "cores", "usable", "n_processes", "share"),
    [(0.0, 8, 8, 4, 1.0), (6.0, 2, 2, 2, 0.25), (0.0, 8, 2, 4, 0.5), (60.0, 64, 4, 4, 1.0)],
    ids=["idle", "busy", "few cores of many", "a part of a busy machine"],
)
def test_before_anything_is_computed_the_share_follows_the_load_of_the_machine(
    load: float, cores: int, usable: int, n_processes: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(work_clock, "usable_cores", lambda: usable)
    assert share_to_expect(n_processes) == pytest.approx(share)
    assert WorkClock(0.0, lambda: 0.0, expected_share=share).share == share
    assert WorkClock(0.0, expected_share=share).share == 1.0, "of the wall"
