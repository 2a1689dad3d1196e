"""Variables: those of the environment that change what milbench does. Values that could name a person are not shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from milbench.commands.doctor.section import Section

SHOWN = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",
    "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "MALLOC_ARENA_MAX",
    "HDF5_USE_FILE_LOCKING", "HF_HUB_OFFLINE", "MPLBACKEND", "PYTHONHASHSEED", "PYTHONOPTIMIZE", "SLURM_JOB_ID",
    "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_NTASKS", "SLURM_NNODES",
    "SLURM_GPUS", "SLURM_GPUS_ON_NODE",
)  # fmt: skip
"""Variables that are shown with their values: switches and numbers."""

ADDRESSES = ("MLFLOW_TRACKING_URI",)

NAME_ALONE = (
    "MLFLOW_",
    "SLURM_",
    "HDF5_",
    "HF_",
    "CUDA_",
    "NCCL_",
    "MILBENCH_",
    "PYTHON",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "CONDA_DEFAULT_ENV",
)
"""Of other variables that begin like this, the name is shown: values may be folders, accounts, hosts or passwords."""

HERE = ("localhost", "127.0.0.1", "::1")


def variables(environment: Mapping[str, str] = os.environ) -> Section:
    """The variables that are set."""
    values = {name: environment[name] for name in SHOWN if name in environment}
    values |= {name: address(environment[name]) for name in ADDRESSES if name in environment}
    others = sorted(name for name in environment if name.startswith(NAME_ALONE) and name not in values)
    texts = [f"{name}={value}" for name, value in values.items()]
    hidden = f"values not shown: {', '.join(others)}" if others else ""
    text = "; ".join(filter(None, [", ".join(texts), hidden])) or "none that matter"
    return Section("variables", text, {**values, "values_not_shown": others})


def address(text: str) -> str:
    """The kind of store that an address names, with its port: no name, password, host, path or token.

    >>> address("https://me:secret@mlflow.clinic.org:5000/team?token=1")
    'https://(a server):5000'
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "(no address)"
    if not host:
        return f"{parts.scheme}:(not shown)" if parts.scheme else "(a folder)"
    shown = host if host in HERE else "(a server)"
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else "")
