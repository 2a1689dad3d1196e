"""loky: worker processes on this machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import psutil
from joblib.externals.loky import get_reusable_executor, process_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from milbench.engines.alarm import Overdue
from milbench.engines.gpus import take_place
from milbench.engines.pass_result import PassResult
from milbench.engines.task import compute_here
from milbench.process.signals import deaf_children

if TYPE_CHECKING:
    from milbench.engines.settings import PoolSettings
    from milbench.trials.job import DataPass

TICK_SECONDS = 0.5
IDLE_SECONDS = 300
"""How long a worker without work waits for the next round: starting one takes seconds, mostly to import torch."""

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class LokyPool:
    """Processes on this machine.

    Parameters
    ----------
    may_compute_here : whether a single worker that needs neither alarm nor GPU place is this process itself.
    announce : told if this machine can start no workers.

    Attributes
    ----------
    has_workers : whether any pool of this process has started workers.
    executor : what runs them; None if there are none.
    """

    has_workers = False
    executor: Any = None

    def __init__(
        self,
        settings: PoolSettings,
        *,
        may_compute_here: bool = True,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings, self.may_compute_here, self.announce = settings, may_compute_here, announce
        self.can_start_workers = True

    def run(self, passes: Iterator[DataPass], *, alone: bool) -> Iterator[PassResult]:
        """Result of each pass as it ends. If a worker dies, loky ends the others, and all running passes with them."""
        here = self.settings
        needs_own_process = alone or here.trial_seconds or here.gpu_places or not self.may_compute_here
        if not self.can_start_workers or (here.workers == 1 and not needs_own_process):
            yield from self._run_here(passes)
            return
        running: dict[Future[Any], DataPass] = {}
        try:
            yield from self._run_in_workers(passes, running, 1 if alone else here.workers)
        except BrokenProcessPool:
            yield from (PassResult(data_pass.jobs, worker_died=True) for data_pass in running.values())
        except NoWorkersError as error:
            self._fall_back(error)
            yield from self._run_here(chain(running.values(), passes))
        except KeyboardInterrupt:
            end_workers()
            raise

    def _run_here(self, passes: Iterator[DataPass]) -> Iterator[PassResult]:
        here = self.settings
        yield from (PassResult(data_pass.jobs, compute_here(data_pass, here)) for data_pass in passes)

    def _fall_back(self, error: NoWorkersError) -> None:
        """Go on in this process, where no alarm may end what hangs and no GPU can be chosen any more."""
        self.can_start_workers = False
        self.settings = replace(self.settings, workers=1, trial_seconds=0.0)
        self.announce(
            f"no worker processes can be started ({error}), so all trials run in this process, one after the other, without "
            "--trial-timeout. Processes need some space in /dev/shm (in a container: --shm-size, or mount one) and files "
            "that may be open (ulimit -n)."
        )

    def _run_in_workers(
        self, passes: Iterator[DataPass], running: dict[Future[Any], DataPass], width: int
    ) -> Iterator[PassResult]:
        """Keep `width` passes running, no more: a first Ctrl-C waits until all of them have ended."""
        here = self.settings
        executor = worker_processes(here, width)

        def fill() -> None:
            for data_pass in islice(passes, width - len(running)):
                with deaf_children():
                    running[executor.submit(compute_here, data_pass, here)] = data_pass

        overdue = Overdue(here.trial_seconds)
        fill()
        while running:
            ended, _ = wait(running, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
            for future in ended:
                statuses = future.result()
                data_pass = running.pop(future)
                fill()  # first, so that the worker does not wait while the result is recorded
                yield PassResult(data_pass.jobs, statuses)
            if here.trial_seconds:
                for data_pass in running.values():
                    overdue.end(data_pass)


def worker_processes(settings: PoolSettings, width: int) -> Any:
    """An executor of `width` processes here, each with its threads and its GPU; `end_workers` ends them.

    Raises
    ------
    NoWorkersError : the system refuses what they need.
    """
    with _no_workers_if_refused():
        executor = get_reusable_executor(
            max_workers=width,
            timeout=IDLE_SECONDS,
            initializer=_start_worker,
            initargs=(settings.gpu_places,),
            env=dict.fromkeys(THREAD_SETTINGS, str(settings.threads)),
        )
    LokyPool.has_workers, LokyPool.executor = True, executor
    return executor


def computed_seconds() -> float:
    """Seconds of computing of all workers that live; of this process if it has none, because it computes then."""
    executor = LokyPool.executor  # once: the thread that shows progress asks while the workers end
    if executor is None:
        return time.process_time()
    total = 0.0
    for process in list((executor._processes or {}).values()):
        with suppress(psutil.Error):
            times = psutil.Process(process.pid).cpu_times()
            total += times.user + times.system
    return total


class NoWorkersError(Exception):
    """The system refuses what worker processes need."""


@contextmanager
def _no_workers_if_refused() -> Iterator[None]:
    """A full or missing /dev/shm, too many open files: what the system refuses before any worker has started."""
    try:
        yield
    except OSError as error:
        raise NoWorkersError(error.strerror or str(error)) from error


def end_workers() -> None:
    """Kill the workers of this process: on a second Ctrl-C, and at the end, since an orderly exit takes them seconds."""
    if LokyPool.has_workers:
        # "reuse": if the arguments differed, loky would wait until the workers are done, and start new ones
        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)
        LokyPool.has_workers, LokyPool.executor = False, None


def _start_worker(gpus: tuple[str, ...]) -> None:
    """Take the worker's GPU and watch the parent; runs before anything heavy is imported."""
    # loky takes features that stay in memory for a leak: it would end the worker, or collect garbage after every pass
    process_executor._MEMORY_LEAK_CHECK_DELAY = float("inf")
    _die_with_parent(os.getppid())
    if gpus:
        take_place(gpus)


@cache
def _die_with_parent(parent: int) -> None:
    """Watch the parent from a thread. If a run is killed, no worker may stay behind with claimed trials and memory."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(TICK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent watch").start()
