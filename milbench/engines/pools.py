"""Pools: the engine that was asked for, set up and torn down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.engines.gpus import places
from milbench.engines.loky import LokyPool
from milbench.errors import UsageError
from milbench.machine import resolve_device, usable_cores

if TYPE_CHECKING:
    from milbench.engine import Interrupts, Pool


@dataclass(frozen=True)
class PoolSettings:
    """Where passes run; the meaning of each setting stands at `config.EngineConfig`.

    Attributes
    ----------
    run : the run folder, absolute.
    gpu_places : GPU of every place for a worker on this machine.
    """

    run: Path
    kind: str = "loky"
    workers: int = 0
    threads: int = 1
    device: str = "auto"
    gpus: str = ""
    per_gpu: int = 1
    address: str = ""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    trial_seconds: float = 0.0
    max_failures: int = 0
    gpu_places: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it runs, in words, for the first line of a run."""
        return {"slurm": "SLURM", "dask": self.address or f"a dask cluster here, {self.device}"}.get(
            self.kind, self.device
        )

    def settled(self) -> PoolSettings:
        """The same with device, GPU places and workers decided, as far as this machine can decide them.

        Raises
        ------
        UsageError : a device or GPU that is not here; settings that do not go together.
        """
        if self.kind == "slurm" or self.address:
            return self._elsewhere()
        device = resolve_device(self.device)
        gpus = places(self.gpus, self.per_gpu, _n_gpus()) if self.gpus else ()
        workers = self.workers or len(gpus) or (1 if device.startswith("cuda") else usable_cores())
        if gpus and workers > len(gpus):
            raise UsageError(
                f"--workers {workers} is more than the {len(gpus)} places of --gpus {self.gpus} "
                f"--per-gpu {self.per_gpu}. Leave --workers out, or raise --per-gpu."
            )
        return replace(self, device=device, gpu_places=gpus, workers=workers)

    def _elsewhere(self) -> PoolSettings:
        """Other machines decide for themselves which device they have."""
        if self.gpus and self.address:
            raise UsageError("--gpus places workers that milbench starts. Start dask's own one a GPU instead.")
        return replace(self, workers=max(self.workers, 1))


@contextmanager
def open_pool(settings: PoolSettings, interrupts: Interrupts) -> Iterator[Pool]:
    """The pool that `settings` ask for.

    Raises
    ------
    UsageError : its package is not installed, or its cluster cannot be reached.
    """
    if settings.kind == "dask":
        from milbench.engines.dask import open_dask

        with open_dask(settings) as pool:
            yield pool
    elif settings.kind == "slurm":
        from milbench.engines.slurm import SlurmPool

        yield SlurmPool(settings, interrupts)
    else:
        yield LokyPool(settings)


def _n_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def missing_extra(package: str, extra: str) -> UsageError:
    """What to say where an optional package is not installed."""
    return UsageError(
        f"--engine {extra} needs the package '{package}', which is not installed. "
        f"Install it with: python -m pip install 'milbench[{extra}]'."
    )
