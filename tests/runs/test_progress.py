"""Progress: the time left, and what a console that is no terminal is told."""

from __future__ import annotations

from io import StringIO
from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from milbench.runs import progress as module
from milbench.runs.progress import Progress, duration
from milbench.trials.job import Status


@pytest.fixture(autouse=True)
def no_worker_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milbench.runs.time_left.WARM_UP_SECONDS", 0.0)


PLANNED = [("digits", "m4")] * 2 + [("digits", "amil")] * 6


def ended(model: str, seconds: float, state: Any = "done") -> Status:
    trial = SimpleNamespace(dataset="digits", model=model, id=f"digits/{model}")
    return Status(SimpleNamespace(trial=trial), state, seconds, "it broke")  # type: ignore[arg-type]


def begun(workers: int = 1) -> tuple[Progress, StringIO]:
    text = StringIO()
    progress = Progress(Console(file=text, width=200))
    progress.begin(len(PLANNED), [[pair] for pair in PLANNED], workers, "cpu")
    return progress, text


def test_the_time_left_waits_until_it_is_known_of_half_of_what_is_left() -> None:
    progress, _ = begun()
    assert progress.seconds_left() is None
    progress.advance(ended("m4", 100.0))
    assert progress.seconds_left() is None, "a slow model does not stand for all"
    progress.advance(ended("amil", 2.0))
    assert progress.seconds_left() == pytest.approx(100.0 + 5 * 2.0, abs=0.1)


def test_workers_share_the_time_left() -> None:
    progress, _ = begun(workers=2)
    progress.advance(ended("amil", 2.0))
    progress.advance(ended("m4", 10.0))
    assert progress.seconds_left() == pytest.approx((5 * 2.0 + 10.0) / 2, abs=0.1)


def test_what_is_unknown_counts_as_the_mean_of_what_is_known() -> None:
    progress, _ = begun()
    progress.advance(ended("amil", 2.0))
    assert progress.seconds_left() == pytest.approx(7 * 2.0, abs=0.1)


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


def test_a_forecast_gives_the_time_left_before_any_trial_has_ended() -> None:
    progress, text = begun()
    progress.foretold = lambda: {("digits", "m4"): 100.0, ("digits", "amil"): 2.0}
    assert progress.seconds_left() == pytest.approx(2 * 100.0 + 6 * 2.0, abs=0.1)
    progress.advance(ended("amil", 4.0))
    left = progress.seconds_left()
    assert left is not None
    assert 2 * 100.0 + 5 * 4.0 < left < 2 * 150.0 + 5 * 4.0, (
        "what has finished counts more than a forecast, and one quick trial hardly corrects that of the others"
    )
    assert text.getvalue().startswith("8 trials")


def test_the_time_left_is_printed_as_soon_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    text = StringIO()
    progress = Progress(Console(file=text, width=200), forecasts=True)
    progress.begin(len(PLANNED), [[pair] for pair in PLANNED], 1, "cpu")
    with progress:
        sleep(0.1)
        assert "left" not in text.getvalue()
        progress.foretold = lambda: {("digits", "m4"): 3000.0, ("digits", "amil"): 1.0}
        for _ in range(200):
            if "left" in text.getvalue():
                break
            sleep(0.02)
    assert text.getvalue().splitlines()[1:] == [
        "0/8 trials, about 1 h 40 min left".replace("1 h 40 min", duration(6006.0))
    ]


def test_whoever_waits_after_ctrl_c_is_told_for_how_long() -> None:
    progress, text = begun(workers=2)
    progress.foretold = lambda: {("digits", "m4"): 100.0, ("digits", "amil"): 20.0}
    m4, amil = ("digits", "m4"), ("digits", "amil")
    progress.running = lambda: [(m4, 1, 40.0), (amil, 2, 5.0), (amil, 2, 5.0)]
    assert progress.seconds_of_running() == pytest.approx(60.0), "the m4 trial ends last"
    progress.stop("stopping.")
    assert text.getvalue().splitlines()[-1] == "stopping. They need about 60 s."


def test_nothing_is_promised_of_a_trial_of_which_nothing_is_known() -> None:
    progress, text = begun()
    progress.running = lambda: [(("digits", "m4"), 1, 0.0)]
    progress.stop("stopping.")
    assert text.getvalue().splitlines()[-1] == "stopping."
