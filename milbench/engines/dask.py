"""dask: worker processes of a dask.distributed cluster. milbench starts one here, or joins one that runs already."""

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
from milbench.engines.pass_result import PassResult
from milbench.engines.settings import PoolSettings
from milbench.engines.task import compute_here
from milbench.errors import MilbenchError, UsageError
from milbench.process.signals import deaf_children

if TYPE_CHECKING:
    from milbench.engines.supervisor import Interrupts
    from milbench.trials.job import DataPass, Status

TICK_SECONDS = 0.5
CONNECT_SECONDS = 30

_one_at_a_time = threading.Lock()
"""Makes passes take turns: a worker may have several threads, and all share the process's random generator."""


class DaskPool:
    """Workers of a dask cluster."""

    def __init__(self, client: Any, settings: PoolSettings, interrupts: Interrupts) -> None:
        self.client, self.settings, self.interrupts = client, settings, interrupts

    def run(self, passes: Iterator[DataPass], *, alone: bool) -> Iterator[PassResult]:
        """Result of each pass as it ends. If a pass kills its worker, dask drops the pass and starts the worker again.

        Raises
        ------
        MilbenchError : the scheduler is gone, or cannot run a pass.
        """
        try:
            yield from self._run(passes, alone=alone)
        except (OSError, CancelledError) as error:
            raise MilbenchError(
                f"the dask scheduler is gone ({type(error).__name__}: {error}). "
                "Finished trials are kept. Start a scheduler, then run the same command again."
            ) from error

    def _run(self, passes: Iterator[DataPass], *, alone: bool) -> Iterator[PassResult]:
        from distributed import wait

        running: dict[Any, DataPass] = {}
        was_announced = False
        while True:
            workers = list(self.client.nthreads())
            if not workers and self.interrupts.requested:
                return  # no worker could finish anything
            if not workers and not running:
                if not was_announced:
                    self.interrupts.announce(
                        f"waiting: {self.settings.address or 'the dask cluster'} has no workers yet."
                    )
                was_announced = True
                time.sleep(TICK_SECONDS)
                continue
            here = replace(self.settings, workers=_most_on_one_host(workers))
            for data_pass in islice(passes, max((1 if alone else len(workers)) - len(running), 0 if running else 1)):
                running[self.client.submit(_task, data_pass, here, pure=False)] = data_pass
            if not running:
                return
            with suppress(TimeoutError):
                wait(list(running), timeout=TICK_SECONDS, return_when="FIRST_COMPLETED")
            for future in [future for future in running if future.done()]:
                yield _result(running.pop(future), future)


def _task(data_pass: DataPass, settings: PoolSettings) -> list[Status] | None:
    """What a dask worker does with a pass; None if an earlier try of it hung, since dask tries again by itself."""
    with _one_at_a_time:
        return None if settings.trial_seconds and has_hung(data_pass) else compute_here(data_pass, settings)


def _result(data_pass: DataPass, future: Any) -> PassResult:
    from distributed import KilledWorker

    if future.status == "finished":
        statuses: list[Status] | None = future.result()
        if statuses is not None:
            return PassResult(data_pass.jobs, statuses)
        return PassResult(data_pass.jobs, worker_died=True)  # in the earlier try
    error = future.exception()
    if isinstance(error, KilledWorker):
        return PassResult(data_pass.jobs, worker_died=True)
    raise MilbenchError(
        f"dask could not run a pass ({type(error).__name__}: {error}). Its workers need the same milbench and the same "
        "paths as this process. Finished trials are kept. Set up the workers alike, then run the same command again."
    ) from error


def _most_on_one_host(workers: list[str]) -> int:
    """The largest number of workers that share one host's memory."""
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

    # the supervisor counts dead workers and tries again by itself; dask must not end workers that hold features
    dask.config.set({"distributed.scheduler.allowed-failures": 0})
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=0,
        dashboard_address=":0",  # any free port: others may have clusters on this machine too
        silence_logs=logging.CRITICAL,
    )


@contextmanager
def _connected(distributed: Any, address: str) -> Iterator[Any]:
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no dask scheduler answers at '{address}' ({error}). Start one with `dask scheduler`; it prints its "
            "address, such as tcp://host:8786. Then start workers with `dask worker ADDRESS --nthreads 1`."
        ) from error
    with client:
        yield client


def _worker_start(distributed: Any, gpus: tuple[str, ...]) -> Any:
    """A plug-in that gives each worker its GPU, also a worker that dask starts again."""

    class WorkerStart(distributed.WorkerPlugin):  # type: ignore[misc]
        def setup(self, worker: Any) -> None:
            if gpus:
                take_place(gpus)

    return WorkerStart()
