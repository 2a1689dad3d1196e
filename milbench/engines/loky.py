"""loky: worker processes on this machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from joblib.externals.loky import get_reusable_executor, process_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from milbench.engines.alarm import Overdue
from milbench.engines.gpus import take_place
from milbench.engines.signals import deaf_children
from milbench.engines.task import compute

if TYPE_CHECKING:
    from milbench.engines.settings import PoolSettings
    from milbench.engines.supervisor import Ended
    from milbench.trials.job import Pass

TICK_SECONDS = 0.5
IDLE_SECONDS = 300
"""A worker without work lives on for the next round: starting one costs seconds, most of them torch's."""

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class LokyPool:
    """Processes on this machine.

    Parameters
    ----------
    may_compute_here : one worker that needs neither alarm nor GPU place is this process itself.

    Attributes
    ----------
    has_workers : whether any pool of this process has started some.
    """

    has_workers = False

    def __init__(self, settings: PoolSettings, *, may_compute_here: bool = True) -> None:
        self.settings, self.may_compute_here = settings, may_compute_here

    def run(self, passes: Iterator[Pass], *, alone: bool) -> Iterator[Ended]:
        """Each pass as it ends; a killed worker takes the pool with it, and with it all passes in flight."""
        here = self.settings
        needs_own_process = alone or here.trial_seconds or here.gpu_places or not self.may_compute_here
        if here.workers == 1 and not needs_own_process:
            yield from ((pass_, compute(pass_, here)) for pass_ in passes)
            return
        flying: dict[Future[Any], Pass] = {}
        try:
            yield from self._fly(passes, flying, 1 if alone else here.workers)
        except BrokenProcessPool:
            yield from ((pass_, None) for pass_ in flying.values())
        except KeyboardInterrupt:
            end_workers()
            raise

    def _fly(self, passes: Iterator[Pass], flying: dict[Future[Any], Pass], width: int) -> Iterator[Ended]:
        """Keep `width` passes in flight, no more: what is in flight is finished before a Ctrl-C is answered."""
        here, LokyPool.has_workers = self.settings, True
        executor = get_reusable_executor(
            max_workers=width,
            timeout=IDLE_SECONDS,
            initializer=_start_worker,
            initargs=(here.gpu_places,),
            env=dict.fromkeys(THREAD_SETTINGS, str(here.threads)),
        )

        def fill() -> None:
            for pass_ in islice(passes, width - len(flying)):
                with deaf_children():
                    flying[executor.submit(compute, pass_, here)] = pass_

        overdue = Overdue(here.trial_seconds)
        fill()
        while flying:
            ended, _ = wait(flying, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
            for future in ended:
                statuses = future.result()
                pass_ = flying.pop(future)
                fill()  # first, so that the worker does not wait while the result is booked
                yield pass_, statuses
            if here.trial_seconds:
                for pass_ in flying.values():
                    overdue.end(pass_)


def end_workers() -> None:
    """Kill the workers of this process: on a second Ctrl-C, and when all is done, where goodbye takes them seconds."""
    if LokyPool.has_workers:
        # "reuse": with other arguments than theirs, loky would wait for what they are at, and start new ones
        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)
        LokyPool.has_workers = False


def _start_worker(gpus: tuple[str, ...]) -> None:
    """Before anything heavy is imported: the worker's GPU, and an eye on the parent."""
    # loky would take features that stay in memory for a leak and end the worker, or look for garbage after every pass
    process_executor._MEMORY_LEAK_CHECK_DELAY = float("inf")
    _die_with_parent(os.getppid())
    if gpus:
        take_place(gpus)


@cache
def _die_with_parent(parent: int) -> None:
    """Watch the parent from a thread: a killed run must not leave workers that hold trials and memory."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(TICK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent watch").start()
