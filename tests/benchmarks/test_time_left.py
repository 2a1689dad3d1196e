"""The time left benchmark: what counts as right, and what a row says of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import time_left
from time_left import Saying, is_right, row

WHOLE = 100


def run_that_says(said: Callable[[float], float | None]) -> list[Saying]:
    """A run of 100 s that says something of each second that is left, with half a core."""
    return [Saying(float(at), float(WHOLE - at), said(float(WHOLE - at)), 0.5, at / 2, 3.0) for at in range(WHOLE + 1)]


def test_the_truth_is_right_whatever_is_said_in_the_first_tenth() -> None:
    sayings = run_that_says(lambda left: left if left <= 90 else 5 * left)
    assert row("true", sayings) == ["true", "100", "3.0", "0.50 to 0.50", *["1.00"] * 5, "1.00", "100 %", "100 %"]


def test_twice_the_truth_is_right_in_the_last_seconds_alone() -> None:
    *_, furthest, right, computing = row("double", run_that_says(lambda left: 2 * left))
    assert (furthest, right, computing) == ("2.00", "2 %", "2 %"), "2 of 90 seconds"


def test_a_load_that_nobody_foresaw_is_told_apart() -> None:
    sayings = [each._replace(share=0.25) for each in run_that_says(lambda left: 2 * left)]
    assert row("loaded", sayings)[-2:] == ["2 %", "100 %"]


@pytest.mark.parametrize(("said", "right"), [(15.0, True), (15.5, False), (6.7, True), (6.0, False), (None, False)])
def test_a_factor_counts_both_ways_and_silence_is_wrong(said: float | None, *, right: bool) -> None:
    assert is_right(Saying(90.0, 10.0, said, 0.5, 45.0, 3.0), WHOLE) is right


def test_the_recording_program_compiles() -> None:
    compile(time_left.RECORDED, "recorded", "exec")
