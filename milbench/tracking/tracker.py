"""Tracker: trials -> MLflow while a run goes on.

Only this process talks to MLflow, in a thread of its own: an unreachable server delays tracking, never the run.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

from milbench.store.run import Run
from milbench.store.trial import StoredTrial
from milbench.tracking.publisher import Publisher, unreachable
from milbench.tracking.values import as_they_ran

CLOSE_SECONDS = 120.0
"""How long the end of a run waits for tracking to catch up."""


class Tracker:
    """Publishes trials in the background, while the run goes on.

    Parameters
    ----------
    uri : MLflow tracking server or database.
    run : whose trials they are; its name is the experiment's.
    enabled : False makes every method do nothing.
    warn : called once with one line if tracking fails.
    """

    def __init__(self, uri: str, run: Run, *, enabled: bool = True, warn: Callable[[str], None]) -> None:
        self.uri, self.run, self.enabled, self.warn = uri, run, enabled, warn
        self._queue: queue.Queue[StoredTrial | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._failed = False

    def log_trial(self, trial: StoredTrial) -> None:
        """Publish `trial` when its turn comes; returns at once."""
        if self.enabled:
            self._queue.put(trial)

    def log_stored(self, trials: Iterable[StoredTrial]) -> None:
        """Publish trials that earlier commands left; those already there are left alone."""
        for trial in as_they_ran(trials):
            self.log_trial(trial)

    def _work(self) -> None:
        try:
            publisher = Publisher(self.uri, self.run)
            while (trial := self._queue.get()) is not None:
                publisher.publish(trial)
            publisher.summarise()
        except Exception as error:  # noqa: BLE001 - MLflow raises many kinds, and none may reach the run
            self._failed = True
            self.warn(f"warning: {unreachable(self.uri, self.run, error)}")

    def __enter__(self) -> Tracker:
        if self.enabled:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.enabled:
            return
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS if kind is None else 1.0)
        if self._thread.is_alive() and not self._failed:
            slow = TimeoutError("it is too slow to wait for")
            self.warn(f"warning: {unreachable(self.uri, self.run, slow)}")
