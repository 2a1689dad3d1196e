"""Forecast: the estimate of `milbench plan`, made by a process beside the run, so that the time left is known early."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from threading import Lock, Timer
from typing import Any

from milbench.cohorts.cohort import Cohort
from milbench.engines.settings import PoolSettings
from milbench.errors import MilbenchError
from milbench.process.signals import deaf_children
from milbench.registry import is_baseline
from milbench.runs.preparation import Benchmark
from milbench.serving.residency import mean_patches
from milbench.trials.plan import Trial

Pairs = Mapping[tuple[str, str], float]

WAIT_FOR_GPU = 60.0
"""Seconds that a run on a GPU waits for its forecast: probes beside the training would take memory from it."""

SHORT_RUN_SECONDS = 5.0
"""Nobody asks how long a run takes that is over by then."""

LONG_RUN_BAGS = 50_000
"""Bags that trials train on, from which a run is not over so soon."""

QUICK_SECONDS = 2.0
"""Of computing that a run which is not over so soon spends at its start on a forecast of milbench's own models."""

QUICK_BYTES = 64e6
"""Largest bags of a probe that are read at the start: larger ones take longer, and so does their run."""

IDLE_SECONDS = 10.0
"""After which the process ends by itself: a run that was killed must leave none behind."""


class Forecast:
    """Seconds per trial by (dataset, model); empty until they are known, and for ever where they cannot be."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        self.executor: Any = None
        self.future: Future[Any] | None = None
        self.lock, self.ended = Lock(), False
        self.at_start: Pairs = {}

    @property
    def seconds(self) -> Pairs:
        """What is known by now."""
        return {**self.at_start, **self._of_the_process()}

    def _of_the_process(self) -> Pairs:
        if self.future is None or not self.future.done() or self.future.cancelled() or self.future.exception():
            return {}
        found: Pairs = self.future.result()
        return found

    def start(self) -> None:
        """Have a process of its own make the forecast, unless the run is over."""
        from joblib.externals.loky import ProcessPoolExecutor

        with self.lock, deaf_children():
            if self.ended:
                return
            plugins = tuple(Path(plugin).absolute() for plugin in self.benchmark.config.plugins)
            try:
                self.executor = ProcessPoolExecutor(
                    max_workers=1, timeout=IDLE_SECONDS, initializer=import_first, initargs=(plugins,)
                )
            except OSError:  # no or full /dev/shm: the run does without a forecast, as it does without workers
                return
            self.future = self.executor.submit(seconds_per_trial, self.benchmark)

    def wait(self, seconds: float) -> None:
        """Return when the forecast is made, or after so many seconds, when its process is ended."""
        from joblib.externals.loky import wait

        if self.future is None:
            return
        wait([self.future], timeout=seconds)
        if not self.future.done():
            self.end()

    def end(self) -> None:
        """End the process, if there is one, and start none later."""
        with self.lock:
            self.ended = True
            if self.executor is not None:
                self.executor.shutdown(wait=False, kill_workers=True)


@contextmanager
def forecast(benchmark: Benchmark, settings: PoolSettings) -> Iterator[Forecast]:
    """The forecast of what is left. A process of its own makes it: models draw random numbers and may end a process.

    On a GPU it is made before the block begins. Else milbench's own models are probed before it, unless the run is short or
    its bags are large, and what is not known then beside it, and not before a short run is over: that takes a core from the
    training for some seconds. Nothing is made for workers on other machines.
    """
    found = Forecast(benchmark)
    if settings.is_elsewhere or not benchmark.unfinished_trials():
        yield found
        return
    later = Timer(SHORT_RUN_SECONDS, found.start)
    later.daemon = True
    try:
        if settings.on_gpu:
            found.start()
            found.wait(WAIT_FOR_GPU)
        else:
            found.at_start = quick_forecast(benchmark)
            if {(trial.dataset, trial.model) for trial in benchmark.unfinished_trials()} - found.at_start.keys():
                later.start()
        yield found
    finally:
        later.cancel()
        found.end()


def quick_forecast(benchmark: Benchmark) -> Pairs:
    """Seconds per trial by (dataset, model), found in this process within about `QUICK_SECONDS`, as far as that goes."""
    trials = benchmark.unfinished_trials()
    cohorts = {entry.cohort.name: entry.cohort for entry in benchmark.entries}
    if sum(trial.recipe.epochs * len(cohorts[trial.dataset].slides) for trial in trials) < LONG_RUN_BAGS:
        return {}
    sizes = [_probe_bytes(trial, cohorts[trial.dataset]) for trial in trials]
    if max(sizes) > QUICK_BYTES:
        return {}
    others = {name for name, model in benchmark.models.items() if not is_baseline(model)}
    return seconds_per_trial(benchmark, without=others, budget=QUICK_SECONDS)


def _probe_bytes(trial: Trial, cohort: Cohort) -> float:
    from milbench.runs.estimate import PROBE_STEPS

    n_bags = PROBE_STEPS * trial.recipe.bags_per_step
    return 4.0 * n_bags * mean_patches(cohort, trial.recipe.bag_patches) * cohort.in_features


def import_first(plugins: Sequence[Path]) -> None:
    """Import plug-ins in a new process before it is sent a benchmark, which names their classes."""
    from milbench.registry import load_models

    with suppress(MilbenchError):  # there is no forecast then, as the benchmark cannot be received
        load_models(plugins)


def seconds_per_trial(benchmark: Benchmark, *, without: Container[str] = (), budget: float = inf) -> Pairs:
    """Seconds per trial by (dataset, model), in a process that knows the plug-ins; a model that raises has none.

    Parameters
    ----------
    without, budget : as in `milbench.runs.estimate.estimate`.
    """
    from milbench.runs.estimate import estimate

    found = estimate(benchmark, without=without, budget=budget)
    numbers = Counter((trial.dataset, trial.model) for trial in benchmark.unfinished_trials())
    return {pair: seconds / numbers[pair] for pair, seconds in found.seconds.items() if pair[1] not in found.failed}
