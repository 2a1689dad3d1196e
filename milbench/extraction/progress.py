"""Progress: a live bar in a terminal, elsewhere a line every few seconds; each failure is shown once."""

from __future__ import annotations

from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from milbench.extraction.features import Watch
from milbench.machine.durations import duration

LINE_EVERY_SECONDS = 15.0


class Progress(Watch):
    """Shows slides and patches that are done, and the time left.

    Attributes
    ----------
    slides, ended_slides : asked for, and done, failed or done before.
    to_plan : slides whose patches are not known yet.
    n_planned, planned_patches : slides whose patches were known at some time, and all their patches.
    left : patches without features, by slide in work.
    encoded_patches : with features, in this command.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.slides = self.ended_slides = self.failed = self.to_plan = 0
        self.n_planned = self.planned_patches = self.encoded_patches = 0
        self.left: dict[str, int] = {}
        self.began = self.last_line = monotonic()
        self.bar = RichProgress(
            TextColumn("slides"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=None)

    def begun(self, slides: int, finished: int) -> None:
        self.slides, self.ended_slides, self.to_plan = slides, finished, slides - finished
        self.began = monotonic()
        self.note(f"{slides} slides{f' ({finished} already done)' if finished else ''}")
        self._show()

    def planned(self, slide_id: str, patches: int) -> None:
        self.to_plan -= 1
        self.n_planned, self.planned_patches = self.n_planned + 1, self.planned_patches + patches
        self.left[slide_id] = patches

    def encoded(self, slide_id: str, patches: int) -> None:
        self.encoded_patches += patches
        self.left[slide_id] -= patches
        self._show()

    def ended(self, slide_id: str, problem: str = "") -> None:
        self.ended_slides += 1
        self.to_plan -= slide_id not in self.left
        self.left.pop(slide_id, None)
        if problem:
            self.failed += 1
            self.note(f"failed: {slide_id}: {problem}")
        self._show()

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def seconds_left(self, now: float) -> float | None:
        """Estimate of when the last slide ends, if slides to come have as many patches as those so far; None before the first."""
        if not self.encoded_patches:
            return None
        left = sum(self.left.values()) + self.to_plan * self.planned_patches / self.n_planned
        return left * (now - self.began) / self.encoded_patches

    def _show(self) -> None:
        self.bar.update(self.task, total=self.slides, completed=self.ended_slides, description=self._tail())
        if not self.console.is_terminal and monotonic() - self.last_line > LINE_EVERY_SECONDS:
            self.last_line = monotonic()
            self.note(", ".join(filter(None, (f"{self.ended_slides}/{self.slides} slides", self._tail()))))

    def _tail(self) -> str:
        seconds = monotonic() - self.began
        speed = f"{self.encoded_patches / seconds:,.0f} patches/s" if self.encoded_patches and seconds > 1 else ""
        left = self.seconds_left(monotonic())
        failed = f"{self.failed} failed" if self.failed else ""
        return ", ".join(filter(None, (failed, speed, f"about {duration(left)} left" if left else "")))

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
