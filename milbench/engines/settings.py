"""Pool settings: where passes run, as far as the machine that starts them can decide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from milbench.engines.gpus import places
from milbench.errors import UsageError
from milbench.machine.hardware import resolve_device, usable_cores

EXTRAS = {"dask": "distributed", "slurm": "submitit"}
"""Package that an engine needs; the extra of the engine's name installs it."""


@dataclass(frozen=True)
class PoolSettings:
    """Where passes run; `config.EngineConfig` says what each setting means.

    Attributes
    ----------
    run : the run folder, absolute.
    gpu_places : GPU of each place for a worker on this machine.
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
    def width(self) -> int:
        """Passes that run at once, as far as this machine can know."""
        if self.kind != "slurm":
            return max(self.workers, 1)
        gpus = str(self.slurm.get("gpus", "")).rpartition(":")[2]  # "2" or "a100:2"
        return self.n_jobs * max(self.workers, int(gpus) if gpus.isdigit() else 1)

    @property
    def n_jobs(self) -> int:
        """SLURM jobs to submit."""
        return int(self.slurm.get("jobs", 1))

    @property
    def gpu_workers(self) -> int:
        """Workers that share one GPU; 0 = all workers."""
        return self.per_gpu if self.gpu_places else 0

    @property
    def place(self) -> str:
        """Name of the place where passes run, for the first line of a run."""
        return {"slurm": "SLURM", "dask": self.address or f"a dask cluster here, {self.device}"}.get(
            self.kind, self.device
        )

    @property
    def is_elsewhere(self) -> bool:
        """Whether passes run on other machines, which find their own device and memory."""
        return self.kind == "slurm" or bool(self.address)

    @property
    def on_gpu(self) -> bool:
        """Whether trials will run on GPUs, as far as this machine can know."""
        asked = any("gpu" in f"{key}={value}" for key, value in self.slurm.items())  # gpus=1, gres=gpu:1
        return self.device.startswith("cuda") or bool(self.gpus) or asked

    def settled(self) -> PoolSettings:
        """The settings with device, GPU places and workers decided, as far as this machine can decide them.

        Raises
        ------
        UsageError : a device, GPU or package is missing, or two settings contradict each other.
        """
        package = EXTRAS.get(self.kind)
        if package and find_spec(package) is None:
            raise UsageError(
                f"--engine {self.kind} needs the package '{package}', which is not installed. "
                f"Install it with: python -m pip install 'milbench[{self.kind}]'."
            )
        if self.address and self.kind != "dask":
            raise UsageError(f"--address {self.address} is the address of a dask scheduler. Add --engine dask.")
        jobs = str(self.slurm.get("jobs", 1))
        if not jobs.isdecimal() or len(jobs) > 5 or int(jobs) < 1:
            raise UsageError(f"engine.slurm.jobs is '{jobs}'; expected a number of jobs, from 1 to 99999.")
        if self.kind == "slurm" and self.slurm.get("cluster", "slurm") == "slurm" and which("sbatch") is None:
            raise UsageError(
                "--engine slurm found no `sbatch` on this machine. Run the command on a machine that submits SLURM jobs, "
                "or use --engine loky, --engine dask or --shard."
            )
        if self.is_elsewhere:
            return self._elsewhere()
        if self.per_gpu > 1 and not self.gpus:
            raise UsageError(
                f"--per-gpu {self.per_gpu} needs --gpus, which is missing. Add --gpus all, or name the GPUs."
            )
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
        """The settings as they are: other machines find their own device."""
        if self.gpus and self.address:
            raise UsageError(
                "--gpus places workers that milbench starts, not those of a running dask cluster. "
                "Leave --gpus out and start one dask worker per GPU instead."
            )
        return self


def _n_gpus() -> int:
    import torch

    return torch.cuda.device_count()
