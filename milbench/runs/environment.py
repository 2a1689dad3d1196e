"""Environment: versions, commit and hardware of a run. Recorded, but never part of a trial's identity."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

import milbench

PACKAGES = ("torch", "numpy", "scikit-learn", "pandas", "h5py", "joblib", "mlflow", "safetensors", "pyarrow")


def describe_environment() -> dict[str, Any]:
    """Plain values that a reader needs to repeat the run."""
    return {
        "milbench": milbench.__version__,
        "git": _git_commit(Path(milbench.__file__).parent) or _git_commit(Path.cwd()),
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


def _git_commit(folder: Path) -> str:
    """Commit of the checkout that tracks `folder`, with "-dirty" if files differ; "" if no checkout does."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        if "pyproject.toml" not in git("ls-files", "--full-name", ":/pyproject.toml"):
            return ""
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
