"""Tracker: trials -> MLflow while a run goes on.

Only this process talks to MLflow, in a thread of its own: an unreachable server delays tracking, never the run. The end
of a run waits for tracking as long as it gets on, and for `SILENCE_SECONDS` where it does not.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from milbench.store.run import Run
from milbench.store.trial import StoredTrial
from milbench.tracking.client import client_of
from milbench.tracking.publisher import Publisher, refusals, unreachable
from milbench.tracking.values import as_they_ran

SILENCE_SECONDS = 5.0
"""How long the end of a run waits for the next trial to be taken in."""
CLOSE_SECONDS = 60.0
"""How long it waits in all, for an MLflow that takes in trial after trial."""
INTERRUPTED_SECONDS = 1.0
"""The same where the run was stopped at once."""
LOOK_SECONDS = 0.05


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
        self._last_step, self._patience = time.monotonic(), SILENCE_SECONDS

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
            client_of(self.uri, self._step)  # importing MLflow and making tables is work, not silence
            self._step()
            publisher = Publisher(self.uri, self.run)
            self._step()
            while (trial := self._queue.get()) is not None:
                publisher.publish_or_note(trial)
                self._step()
            publisher.summarise(self._step)
            if publisher.refused and not self._failed:
                self.warn(f"warning: {refusals(publisher)}")
        except Exception as error:  # noqa: BLE001 - MLflow raises many kinds, and none may reach the run
            if not self._failed:
                self._failed = True
                self.warn(f"warning: {unreachable(self.uri, self.run, error)}")

    def _step(self, patience: float = 0.0) -> None:
        """Note that MLflow got on, and how long its next step may take: not less than `SILENCE_SECONDS`."""
        self._last_step, self._patience = time.monotonic(), max(patience, SILENCE_SECONDS)

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
        self._wait(CLOSE_SECONDS if kind is None else INTERRUPTED_SECONDS)
        if self._thread.is_alive() and not self._failed:
            self._failed = True
            slow = TimeoutError("it is too slow to wait for")
            self.warn(f"warning: {unreachable(self.uri, self.run, slow)}")

    def _wait(self, most: float) -> None:
        """Return once all is published, once MLflow does not get on, or after `most` seconds."""
        began = time.monotonic()
        while self._thread.is_alive():
            now = time.monotonic()
            if now - began > most or now - max(self._last_step, began) > self._patience:
                return
            self._thread.join(LOOK_SECONDS)
