"""Progress: a live bar in a terminal, elsewhere a line every few seconds; each failure is shown once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from milbench.machine.durations import duration
from milbench.runs.time_left import Pair, TimeLeft, passes_of_pairs
from milbench.runs.work_clock import WorkClock, share_to_expect
from milbench.trials.job import Status

LINE_EVERY_SECONDS = 15.0
SILENT_SECONDS = 300.0
"""A console that is no terminal gets a line at least so often, even if no trial ends."""

TICK_SECONDS = 1.0

START_UP_SECONDS = 2.5
"""That a worker process takes before its first pass, mostly to import torch."""


class Progress:
    """Shows trials done, failed and the time left, as `milbench.runs.time_left` reckons it.

    Attributes
    ----------
    time_left : what it knows of the passes that run and wait.
    forecasts : whether the run makes a forecast for it, in a process beside the run.
    foretold : seconds per trial by (dataset, model), as the forecast has them by now.
    computed : seconds of computing of all workers so far; None if nobody can tell.
    running : (dataset, model), process and age in seconds of each trial that is computed right now.
    """

    def __init__(self, console: Console, *, forecasts: bool = False) -> None:
        self.console, self.forecasts = console, forecasts
        self.foretold: Callable[[], Mapping[Pair, float]] = dict
        self.running: Callable[[], Sequence[tuple[Pair, int, float]]] = tuple
        self.computed: Callable[[], float | None] = lambda: None
        self.stopping = False
        self.ended = Event()
        self.time_left, self.clock = TimeLeft([], 1), WorkClock(monotonic())
        self.lock = Lock()  # the thread that shows it reads while trials end
        self.total = self.done = self.failed = 0
        self.last_line = monotonic()
        self.bar = RichProgress(
            TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=None)

    def begin(self, total: int, passes: Sequence[Sequence[Pair]], workers: int, device: str) -> None:
        """Announce `total` trials, of which those in `passes` are still to run.

        Parameters
        ----------
        passes : in the order in which they start, (dataset, model) of each trial.
        """
        self.total, self.done = total, total - sum(map(len, passes))
        self.time_left = TimeLeft(passes_of_pairs(passes), workers)
        self.time_left.begin(0.0, START_UP_SECONDS if workers > 1 else 0.0)
        finished = f" ({self.done} already done)" if self.done else ""
        self.console.print(f"{total} trials{finished}, {workers} worker{'s' * (workers > 1)} on {device}")
        self.bar.update(self.task, total=total, completed=self.done)

    def advance(self, status: Status) -> None:
        """Count one ended trial and show it."""
        pair = (status.job.trial.dataset, status.job.trial.model)
        self.done += 1
        with self.lock:
            self.time_left.ended(pair, status.seconds if status.state == "done" else None, self._now())
        if status.state == "failed":
            self.failed += 1
            self.note(f"failed: {status.job.trial.id}: {status.message}")
        self.bar.update(self.task, completed=self.done, description=self._tail())
        if not self.console.is_terminal and monotonic() - self.last_line > LINE_EVERY_SECONDS:
            self._print_line()

    def _print_line(self) -> None:
        self.last_line = monotonic()
        self.note(", ".join(filter(None, (f"{self.done}/{self.total} trials", self._tail()))))

    def stop(self, text: str) -> None:
        """Say that the run stops after what is running, and how long that takes."""
        self.stopping = True
        left = self.seconds_of_running()
        self.note(text if left is None else f"{text} They need about {duration(left)}.")

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def seconds_left(self) -> float | None:
        """Estimate of when the last trial ends; None as long as nothing is known of most trials that are left."""
        with self.lock:
            left = self.time_left.seconds(self.foretold(), self._now())
            return None if left is None else left / self.clock.share

    def _now(self) -> float:
        return self.clock.read(monotonic(), len(self.time_left.running))

    def seconds_of_running(self) -> float | None:
        """Estimate of when the last running trial ends; None if nothing is known of one of them.

        A process computes its trials one after the other, or in a stack whose seconds they share.
        """
        with self.lock:
            known = self.time_left.per_trial(self.foretold(), self._now())
            mean = {pair: seconds / self.clock.share for pair, seconds in known.items()}
        running = self.running()
        if not running or any(pair not in mean for pair, _, _ in running):
            return None
        work: dict[int, float] = defaultdict(float)
        for pair, process, _ in running:
            work[process] += mean[pair]
        ages = {process: max(age for _, other, age in running if other == process) for process in work}
        return max(max(work[process] - ages[process], 0.0) for process in work)

    def _tail(self) -> str:
        left = self.seconds_of_running() if self.stopping else self.seconds_left()
        failed = f"{self.failed} failed" if self.failed else ""
        stopping = "stopping" if self.stopping else ""
        time_left = f"about {duration(left)} left" if left else ""
        return ", ".join(filter(None, (failed, stopping, time_left)))

    def _tick(self) -> None:
        """Keep the time left up to date while no trial ends: as soon as it is known, then now and then."""
        announced = False
        while not self.ended.wait(TICK_SECONDS):
            tail = self._tail()
            self.bar.update(self.task, description=tail)
            silent = monotonic() - self.last_line > SILENT_SECONDS
            if not self.console.is_terminal and tail and (silent or not announced):
                self._print_line()
            announced = announced or bool(tail)

    def __enter__(self) -> Progress:
        self.bar.start()
        share = share_to_expect(self.time_left.workers)
        self.clock = WorkClock(monotonic(), self.computed, expected_share=share)
        if self.forecasts:
            Thread(target=self._tick, daemon=True, name="time left").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.bar.stop()
