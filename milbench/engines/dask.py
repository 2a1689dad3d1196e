"""dask: worker processes of a dask.distributed cluster, one made here or one that runs already."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from milbench.engines.alarm import has_hung
from milbench.engines.gpus import take_place
from milbench.engines.settings import PoolSettings
from milbench.engines.signals import deaf_children
from milbench.engines.task import compute
from milbench.errors import MilbenchError, UsageError

if TYPE_CHECKING:
    from milbench.engines.supervisor import Ended, Interrupts
    from milbench.trials.job import Pass, Status

TICK_SECONDS = 0.5
CONNECT_SECONDS = 30

_one_at_a_time = threading.Lock()
"""A worker may have several threads; torch's random generator is the process's, so passes take turns."""


class DaskPool:
    """Workers of a dask cluster."""

    def __init__(self, client: Any, settings: PoolSettings, interrupts: Interrupts) -> None:
        self.client, self.settings, self.interrupts = client, settings, interrupts

    def run(self, passes: Iterator[Pass], *, alone: bool) -> Iterator[Ended]:
        """Each pass as it ends; dask gives up a pass that kills its workers, and starts them again.

        Raises
        ------
        MilbenchError : the scheduler is gone, or cannot run a pass.
        """
        try:
            yield from self._run(passes, alone=alone)
        except (OSError, CancelledError) as error:
            raise MilbenchError(
                f"the dask scheduler is gone ({type(error).__name__}: {error}). "
                "Finished trials are kept; with a scheduler that answers the same command goes on."
            ) from error

    def _run(self, passes: Iterator[Pass], *, alone: bool) -> Iterator[Ended]:
        from distributed import wait

        flying: dict[Any, Pass] = {}
        was_told = False
        while True:
            workers = list(self.client.nthreads())
            if not workers and self.interrupts.requested:
                return  # nobody is there to finish anything
            if not workers and not flying:
                if not was_told:
                    self.interrupts.announce(
                        f"waiting: {self.settings.address or 'the dask cluster'} has no workers yet."
                    )
                was_told = True
                time.sleep(TICK_SECONDS)
                continue
            here = replace(self.settings, workers=_most_on_one_host(workers))
            for pass_ in islice(passes, max((1 if alone else len(workers)) - len(flying), 0 if flying else 1)):
                flying[self.client.submit(_task, pass_, here, pure=False)] = pass_
            if not flying:
                return
            with suppress(TimeoutError):
                wait(list(flying), timeout=TICK_SECONDS, return_when="FIRST_COMPLETED")
            for future in [future for future in flying if future.done()]:
                yield flying.pop(future), _outcome(future)


def _task(pass_: Pass, settings: PoolSettings) -> list[Status] | None:
    """What a dask worker does with a pass; None where an earlier try of it hung, since dask tries again by itself."""
    with _one_at_a_time:
        return None if settings.trial_seconds and has_hung(pass_) else compute(pass_, settings)


def _outcome(future: Any) -> list[Status] | None:
    from distributed import KilledWorker

    if future.status == "finished":
        statuses: list[Status] | None = future.result()
        return statuses
    error = future.exception()
    if isinstance(error, KilledWorker):
        return None
    raise MilbenchError(
        f"dask could not run a pass ({type(error).__name__}: {error}). Its workers need the same milbench and the same "
        "paths as this process. Finished trials are kept; the same command goes on."
    ) from error


def _most_on_one_host(workers: list[str]) -> int:
    """Workers that share a host's memory, at most."""
    hosts = Counter(urlparse(address).hostname for address in workers)
    return max(hosts.values(), default=1)


@contextmanager
def open_dask(settings: PoolSettings, interrupts: Interrupts) -> Iterator[DaskPool]:
    """A pool on the cluster at `settings.address`, or on one of `settings.workers` processes here.

    Raises
    ------
    UsageError : nothing answers at the address.
    """
    import distributed

    if settings.address:
        with _connected(distributed, settings.address) as client:
            yield DaskPool(client, settings, interrupts)
        return
    with deaf_children():
        made = _local_cluster(distributed, settings.workers)
    with made as cluster, distributed.Client(cluster) as client:
        client.register_plugin(_worker_start(distributed, settings.gpu_places))
        yield DaskPool(client, settings, interrupts)


def _local_cluster(distributed: Any, workers: int) -> Any:
    import dask

    # the engine counts kills itself and tries again alone; features kept in memory are not dask's to worry about
    dask.config.set({"distributed.scheduler.allowed-failures": 0})
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=0,
        dashboard_address=":0",  # a port that is free: others have clusters here too
        silence_logs=logging.CRITICAL,
    )


@contextmanager
def _connected(distributed: Any, address: str) -> Iterator[Any]:
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no dask scheduler answers at '{address}' ({error}). Start one with `dask scheduler`, and workers with "
            "`dask worker ADDRESS --nthreads 1`; it prints the address, such as tcp://host:8786."
        ) from error
    with client:
        yield client


def _worker_start(distributed: Any, gpus: tuple[str, ...]) -> Any:
    """A plug-in, so that workers which dask starts again are set up like the first."""

    class WorkerStart(distributed.WorkerPlugin):  # type: ignore[misc]
        def setup(self, worker: Any) -> None:
            if gpus:
                take_place(gpus)

    return WorkerStart()
