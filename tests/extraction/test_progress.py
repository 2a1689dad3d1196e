"""Progress: what is shown of an extraction, and the time left."""

from __future__ import annotations

import pytest
from rich.console import Console

from milbench.extraction.progress import Progress


def progress() -> Progress:
    return Progress(Console(force_terminal=False, quiet=True))


def test_the_time_left_counts_patches_of_slides_that_are_known_and_of_slides_to_come() -> None:
    shown = progress()
    shown.begun(slides=5, finished=1)  # four are left
    assert shown.seconds_left(shown.began + 1) is None
    shown.planned("a", 100)
    shown.planned("b", 300)
    shown.encoded("a", 50)
    # 50 and 300 are known, two slides to come have 200 each
    assert shown.seconds_left(shown.began + 10) == pytest.approx(750 / 5)
    shown.encoded("a", 50)
    shown.ended("a")
    assert shown.seconds_left(shown.began + 10) == pytest.approx(700 / 10)


def test_slides_that_fail_are_not_waited_for_and_each_is_said_once() -> None:
    shown = progress()
    said: list[str] = []
    shown.note = said.append  # type: ignore[method-assign]
    shown.begun(slides=3, finished=0)
    shown.planned("a", 100)
    shown.encoded("a", 40)
    shown.ended("b", "no tissue")
    shown.ended("a", "damaged")
    assert said == ["3 slides", "failed: b: no tissue", "failed: a: damaged"]
    assert shown.seconds_left(shown.began + 4) == pytest.approx(100 / 10)


def test_the_time_left_ends_at_nothing() -> None:
    shown = progress()
    shown.begun(slides=1, finished=0)
    shown.planned("a", 8)
    shown.encoded("a", 8)
    shown.ended("a")
    assert shown.seconds_left(shown.began + 3) == 0
    assert "left" not in shown._tail()
