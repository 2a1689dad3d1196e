"""Pools: the engine that the user named, started and ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from milbench.engines.loky import LokyPool
from milbench.engines.settings import PoolSettings

if TYPE_CHECKING:
    from milbench.engines.supervisor import Interrupts, Pool


@contextmanager
def open_pool(settings: PoolSettings, interrupts: Interrupts) -> Iterator[Pool]:
    """The pool that `settings` name, closed when the block ends.

    Raises
    ------
    UsageError : the pool's cluster cannot be reached.
    """
    if settings.kind == "dask":
        from milbench.engines.dask import open_dask

        with open_dask(settings, interrupts) as pool:
            yield pool
    elif settings.kind == "slurm":
        from milbench.engines.slurm import SlurmPool

        yield SlurmPool(settings, interrupts)
    else:
        yield LokyPool(settings, announce=interrupts.announce)
