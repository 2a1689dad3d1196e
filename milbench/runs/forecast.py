"""Forecast: the estimate of `milbench plan`, made by a process beside the run, so that the time left is known early."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from milbench.engines.settings import PoolSettings
from milbench.engines.signals import deaf_children
from milbench.runs.preparation import Benchmark

Pairs = Mapping[tuple[str, str], float]

WAIT_FOR_GPU = 60.0
"""Seconds that a run on a GPU waits for its forecast: probes beside the training would take memory from it."""

IDLE_SECONDS = 10.0
"""After which the process ends by itself: a run that was killed must leave none behind."""


class Forecast:
    """Seconds per trial by (dataset, model); empty until they are known, and for ever where they cannot be."""

    def __init__(self, future: Future[Any] | None = None) -> None:
        self.future = future

    @property
    def seconds(self) -> Pairs:
        """What is known by now."""
        if self.future is None or not self.future.done() or self.future.cancelled() or self.future.exception():
            return {}
        found: Pairs = self.future.result()
        return found


@contextmanager
def forecast(benchmark: Benchmark, settings: PoolSettings) -> Iterator[Forecast]:
    """The forecast of what is left. A process of its own makes it: models draw random numbers and may end a process.

    On a GPU it is made before the block begins, else beside it. Nothing is made for workers on other machines.
    """
    if settings.is_elsewhere or not benchmark.unfinished_trials():
        yield Forecast()
        return
    from joblib.externals.loky import ProcessPoolExecutor, wait

    executor = ProcessPoolExecutor(max_workers=1, timeout=IDLE_SECONDS)
    try:
        with deaf_children():
            future = executor.submit(seconds_per_trial, benchmark, tuple(map(Path, benchmark.config.plugins)))
        if settings.on_gpu:
            wait([future], timeout=WAIT_FOR_GPU)
            if not future.done():
                executor.shutdown(wait=True, kill_workers=True)
        yield Forecast(future)
    finally:
        executor.shutdown(wait=False, kill_workers=True)


def seconds_per_trial(benchmark: Benchmark, plugins: tuple[Path, ...]) -> Pairs:
    """Seconds per trial by (dataset, model), in a process that knows no plug-in yet; a model that raises has none."""
    from milbench.registry import load_models
    from milbench.runs.estimate import estimate

    load_models(plugins)
    found = estimate(benchmark)
    numbers = Counter((trial.dataset, trial.model) for trial in benchmark.unfinished_trials())
    return {pair: seconds / numbers[pair] for pair, seconds in found.seconds.items() if pair[1] not in found.failed}
