"""Progress: a live bar in a terminal, elsewhere a line every few seconds; each failure is shown once."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from milbench.trials.job import Status

LINE_EVERY_SECONDS = 15.0


class Progress:
    """Shows trials done, failed and the time left.

    The time left is the sum of mean durations per (dataset, model), since an M4 trial takes a hundred times as long as a
    mean-pooling trial.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.left: dict[tuple[str, str], int] = defaultdict(int)
        self.total = self.done = self.failed = 0
        self.workers = 1
        self.last_line = monotonic()
        self.bar = RichProgress(
            TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=None)

    def begin(self, total: int, todo: list[tuple[str, str]], workers: int, device: str) -> None:
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
        if status.state == "done":
            self.seconds[pair].append(status.seconds)
        if status.state == "failed":
            self.failed += 1
            self.note(f"failed: {status.job.trial.id}: {status.message}")
        self.bar.update(self.task, completed=self.done, description=self._tail())
        if not self.console.is_terminal and monotonic() - self.last_line > LINE_EVERY_SECONDS:
            self.last_line = monotonic()
            self.console.print(", ".join(filter(None, (f"{self.done}/{self.total} trials", self._tail()))))

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def seconds_left(self) -> float | None:
        """Estimate; None as long as most trials left belong to a dataset and model without a finished trial.

        The slowest models run first: their durations would count for all.
        """
        mean = {pair: fmean(durations) for pair, durations in self.seconds.items()}
        known = sum(count for pair, count in self.left.items() if pair in mean)
        if not mean or 2 * known < sum(self.left.values()):
            return None
        others = fmean(s for durations in self.seconds.values() for s in durations)
        return sum(count * mean.get(pair, others) for pair, count in self.left.items()) / self.workers

    def _tail(self) -> str:
        left = self.seconds_left()
        failed = f"{self.failed} failed" if self.failed else ""
        return ", ".join(filter(None, (failed, "" if left is None else f"about {duration(left)} left")))

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()


def duration(seconds: float) -> str:
    """Duration in words, such as "42 s", "3 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
