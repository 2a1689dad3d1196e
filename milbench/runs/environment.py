"""Environment: versions, commit and hardware of a run. Recorded, but never part of a trial's identity."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

import milbench
from milbench.runs.commit import commit_of

PACKAGES = ("torch", "numpy", "scikit-learn", "pandas", "h5py", "joblib", "mlflow", "safetensors", "pyarrow")


def describe_environment() -> dict[str, Any]:
    """Plain values that a reader needs to repeat the run."""
    return {
        "milbench": milbench.__version__,
        "git": commit_of(Path(milbench.__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
