"""Progress: a live bar in a terminal, elsewhere a line every few seconds; each failure is shown once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from threading import Event, Thread
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from milbench.machine.durations import duration
from milbench.trials.job import Status

LINE_EVERY_SECONDS = 15.0
SILENT_SECONDS = 300.0
"""A console that is no terminal gets a line at least so often, even if no trial ends."""

TICK_SECONDS = 1.0

Pair = tuple[str, str]
"""Dataset and model."""


class Progress:
    """Shows trials done, failed and the time left.

    The time left is the sum of mean durations per (dataset, model), since an M4 trial takes a hundred times as long as a
    mean-pooling trial. Until a trial of the pair has finished, its forecast counts.

    Attributes
    ----------
    forecasts : whether the run makes a forecast for it, in a process beside the run.
    foretold : seconds per trial by (dataset, model), as the forecast has them by now.
    running : (dataset, model), process and age in seconds of each trial that is computed right now.
    """

    def __init__(self, console: Console, *, forecasts: bool = False) -> None:
        self.console, self.forecasts = console, forecasts
        self.foretold: Callable[[], Mapping[Pair, float]] = dict
        self.running: Callable[[], Sequence[tuple[Pair, int, float]]] = tuple
        self.stopping = False
        self.ended = Event()
        self.last_end = monotonic()
        self.seconds: dict[Pair, list[float]] = defaultdict(list)
        self.left: dict[Pair, int] = defaultdict(int)
        self.total = self.done = self.failed = 0
        self.workers = 1
        self.last_line = monotonic()
        self.bar = RichProgress(
            TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=None)

    def begin(self, total: int, todo: list[Pair], workers: int, device: str) -> None:
        """Announce `total` trials, of which `todo` (dataset, model) pairs are still to run."""
        self.total, self.done, self.workers = total, total - len(todo), workers
        for pair in todo:
            self.left[pair] += 1
        finished = f" ({self.done} already done)" if self.done else ""
        self.console.print(f"{total} trials{finished}, {workers} worker{'s' * (workers > 1)} on {device}")
        self.bar.update(self.task, total=total, completed=self.done)

    def advance(self, status: Status) -> None:
        """Count one ended trial and show it."""
        pair = (status.job.trial.dataset, status.job.trial.model)
        self.left[pair] -= 1
        self.done += 1
        self.last_end = monotonic()
        if status.state == "done":
            self.seconds[pair].append(status.seconds)
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
        """Estimate; None as long as most trials left belong to a dataset and model without a finished trial.

        The slowest models run first: their durations would count for all.
        """
        mean = self._means()
        known = sum(count for pair, count in self.left.items() if pair in mean)
        if not mean or 2 * known < sum(self.left.values()):
            return None
        others = fmean(mean.values() if not self.seconds else (s for each in self.seconds.values() for s in each))
        return sum(count * mean.get(pair, others) for pair, count in self.left.items()) / self.workers

    def _means(self) -> dict[Pair, float]:
        """Seconds per trial: of those that have finished, else as foretold."""
        return {**self.foretold(), **{pair: fmean(durations) for pair, durations in self.seconds.items()}}

    def seconds_of_running(self) -> float | None:
        """Estimate of when the last running trial ends; None if nothing is known of one of them.

        A process computes its trials one after the other, or in a stack whose seconds they share.
        """
        mean, running = self._means(), self.running()
        if not running or any(pair not in mean for pair, _, _ in running):
            return None
        work: dict[int, float] = defaultdict(float)
        for pair, process, _ in running:
            work[process] += mean[pair]
        ages = {process: max(age for _, other, age in running if other == process) for process in work}
        return max(max(work[process] - ages[process], 0.0) for process in work)

    def _tail(self) -> str:
        if self.stopping:
            left = self.seconds_of_running()
        elif (left := self.seconds_left()) is not None:
            left = max(left - (monotonic() - self.last_end), 0.0)
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
        self.last_end = monotonic()
        if self.forecasts:
            Thread(target=self._tick, daemon=True, name="time left").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self.bar.stop()
