"""The time left: recorded runs are replayed, and what is said on the way is held against what came.

The recorded run is `milbench run --workers 1 --set trainer.epochs=3` on digits: CPU seconds of each pass, the three folds of
each model, beside the seconds per trial that its forecast said. CPU seconds, because the machine was shared: they are what
the passes take on a machine of one's own. The first pass of the process took `WARM_UP` longer than the second, and so does
here that of every worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import pytest

from milbench.runs.time_left import TimeLeft

FACTOR = 1.5
START_UP = 2.5
WARM_UP = 1.37
STEP = 0.25


class Recorded(NamedTuple):
    """A model's passes: trials in each, seconds per trial as foretold, seconds of each pass."""

    n_trials: int
    foretold: float
    seconds: Sequence[float]


DIGITS = {
    "mmoe_mp_amil": Recorded(1, 1.872, (1.33, 1.33, 1.44)),
    "m4": Recorded(1, 2.712, (2.34, 2.11, 2.2)),
    "mmoe_amil": Recorded(1, 0.758, (0.72, 0.61, 0.65)),
    "transmil": Recorded(10, 0.684, (5.62, 5.88, 6.46)),
    "dtfd_mil": Recorded(10, 0.106, (1.22, 0.94, 0.82)),
    "mean_pooling": Recorded(10, 0.039, (0.39, 0.38, 0.39)),
    "max_pooling": Recorded(10, 0.042, (0.37, 0.37, 0.39)),
    "amil": Recorded(10, 0.114, (0.99, 0.95, 0.94)),
    "dsmil": Recorded(10, 0.064, (0.51, 0.5, 0.51)),
}
UNLIKE = {name: DIGITS[name] for name in ("transmil", "mean_pooling")}
LONG = {
    name: each._replace(seconds=[20 * each.seconds[-1]] * 3, foretold=20 * each.foretold)
    for name, each in DIGITS.items()
}


def told(
    run: Mapping[str, Recorded], workers: int, *, foretold: float = 1.0, later: float = 1.0
) -> Iterator[tuple[float, float | None]]:
    """Seconds that were left, and what was said, every quarter second.

    Parameters
    ----------
    foretold : by which the forecast is multiplied. later : by which passes of the second half take longer.
    """
    passes = [(name, each.n_trials, seconds) for name, each in run.items() for seconds in each.seconds]
    free = [START_UP if workers > 1 else 0.0] * workers
    heapify(free)
    ends = []
    for place, (name, n_trials, seconds) in enumerate(passes):
        took = seconds * (later if 2 * place >= len(passes) else 1.0) + (WARM_UP if place < workers else 0.0)
        heappush(free, end := heappop(free) + took)
        ends.append((end, name, n_trials, took))
    left = TimeLeft([Counter({("digits", name): n_trials}) for name, n_trials, _ in passes], workers)
    left.begin(0.0, START_UP if workers > 1 else 0.0)
    forecast = {("digits", name): each.foretold * foretold for name, each in run.items()}
    ends.sort()
    last, now = ends[-1][0], 0.0
    while now < last:
        while ends[0][0] <= now:
            end, name, n_trials, took = ends.pop(0)
            for _ in range(n_trials):
                left.ended(("digits", name), took / n_trials, end)
        yield last - now, left.seconds(forecast, now)
        now += STEP


def wrong(sayings: Iterator[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """What was said from the first tenth on and is not within the factor; of the last seconds, not within a second."""
    everything = list(sayings)
    whole = everything[0][0]
    return [
        (left, said)
        for left, said in everything
        if left <= 0.9 * whole
        and (said is None or not (left / FACTOR <= said <= left * FACTOR or abs(left - said) < max(1.0, 0.02 * whole)))
    ]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("run", [DIGITS, UNLIKE, LONG], ids=["digits", "unlike", "long"])
def test_from_the_first_tenth_on_the_time_left_is_within_a_factor(run: Mapping[str, Recorded], workers: int) -> None:
    assert wrong(told(run, workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("foretold", [0.75, 1.2])
def test_a_forecast_that_is_somewhat_off_is_mended_by_what_finishes(workers: int, foretold: float) -> None:
    assert wrong(told(DIGITS, workers, foretold=foretold)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_forecast_of_half_the_time_is_right_after_a_third_of_it(workers: int) -> None:
    sayings = list(told(LONG, workers, foretold=0.5))
    whole = sayings[0][0]
    late = [(left, said) for left, said in sayings if left < 2 * whole / 3]
    assert wrong(iter([(whole, whole), *late])) == []


def test_a_machine_that_becomes_slower_is_noticed() -> None:
    sayings = list(told(LONG, 2, later=1.6))
    whole = sayings[0][0]
    assert all(said is not None and left / 2 <= said for left, said in sayings if left > 0.1 * whole)


def test_the_run_ends_with_its_last_pass_and_not_with_the_mean_of_all() -> None:
    a, b = ("x", "slow"), ("x", "quick")
    left = TimeLeft([Counter({b: 1}), Counter({b: 1}), Counter({a: 1})], 2)
    left.begin(0.0)
    known = {a: 100.0, b: 2.5}
    for now in (5.5, 5.6):
        left.ended(b, 4.0, now)
    assert left.seconds(known, 10.0) == pytest.approx(100.0 - 4.5, rel=0.1), "the other worker has nothing to do"


def test_what_takes_longer_than_foretold_says_so_before_it_ends() -> None:
    a = ("x", "slow")
    left = TimeLeft([Counter({a: 1}), Counter({a: 1})], 1)
    left.begin(0.0)
    assert left.seconds({a: 10.0}, 0.0) == pytest.approx(21.5)
    found = left.seconds({a: 10.0}, 31.5)
    assert found is not None
    assert 30.0 < found < 40.0, "it has taken three times as long, and so will the other"


def test_nothing_is_said_while_nothing_is_known_of_most_trials() -> None:
    a, b = ("x", "slow"), ("x", "quick")
    left = TimeLeft([Counter({a: 1}), Counter({b: 5})], 1)
    left.begin(0.0)
    assert left.seconds({a: 10.0}, 0.0) is None
    assert left.seconds({b: 1.0}, 0.0) is not None


def test_failed_and_skipped_trials_leave_the_queue_and_tell_nothing() -> None:
    a, b = ("x", "slow"), ("x", "quick")
    left = TimeLeft([Counter({a: 2}), Counter({b: 1}), Counter({a: 2})], 1)
    left.begin(0.0)
    for _ in range(4):
        left.ended(a, None, 1.0)
    assert left.left() == Counter({b: 1})
    assert left.seconds({a: 10.0, b: 2.0}, 1.0) == pytest.approx(2.0)
    left.ended(b, 2.0, 3.0)
    assert left.left().total() == 0
    left.ended(b, 2.0, 3.0)  # another process has computed it meanwhile
