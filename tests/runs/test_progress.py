"""Progress: the time left, and what a console that is no terminal is told."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from milbench.runs import progress as module
from milbench.runs.progress import Progress, duration
from milbench.trials.job import Status

PLANNED = [("digits", "m4")] * 2 + [("digits", "amil")] * 6


def ended(model: str, seconds: float, state: Any = "done") -> Status:
    trial = SimpleNamespace(dataset="digits", model=model, id=f"digits/{model}")
    return Status(SimpleNamespace(trial=trial), state, seconds, "it broke")  # type: ignore[arg-type]


def begun(workers: int = 1) -> tuple[Progress, StringIO]:
    text = StringIO()
    progress = Progress(Console(file=text, width=200))
    progress.begin(len(PLANNED), PLANNED, workers, "cpu")
    return progress, text


def test_the_time_left_waits_until_it_is_known_of_half_of_what_is_left() -> None:
    progress, _ = begun()
    assert progress.seconds_left() is None
    progress.advance(ended("m4", 100.0))
    assert progress.seconds_left() is None, "a slow model does not stand for all"
    progress.advance(ended("amil", 2.0))
    assert progress.seconds_left() == pytest.approx(100.0 + 5 * 2.0)


def test_workers_share_the_time_left() -> None:
    progress, _ = begun(workers=2)
    progress.advance(ended("amil", 2.0))
    progress.advance(ended("m4", 10.0))
    assert progress.seconds_left() == pytest.approx((5 * 2.0 + 10.0) / 2)


def test_what_is_unknown_counts_as_the_mean_of_what_is_known() -> None:
    progress, _ = begun()
    progress.advance(ended("amil", 2.0))
    assert progress.seconds_left() == pytest.approx(7 * 2.0)


def test_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_EVERY_SECONDS", -1.0)
    progress, text = begun()
    for status in (ended("m4", 100.0), ended("amil", 2.0), ended("amil", 0.0, "failed")):
        progress.advance(status)
    assert text.getvalue().splitlines() == [
        "8 trials, 1 worker on cpu",
        "1/8 trials",
        "2/8 trials, about 2 min left",
        "failed: digits/amil: it broke",
        "3/8 trials, 1 failed, about 2 min left",
    ]


def test_a_trial_that_failed_tells_nothing_of_durations() -> None:
    progress, _ = begun()
    progress.advance(ended("amil", 0.0, "failed"))
    assert progress.seconds_left() is None


@pytest.mark.parametrize(("seconds", "text"), [(42, "42 s"), (110, "2 min"), (7500, "2 h 05 min")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
