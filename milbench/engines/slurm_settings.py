"""SLURM settings: the `engine.slurm` section -> what submitit takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milbench.errors import UsageError

OWN = ("jobs", "cluster")
"""Settings of milbench itself: the number of jobs, and "local" for processes on this machine instead of sbatch."""

NAMES = {"gpus": "gpus_per_node", "cpus": "cpus_per_task", "memory": "mem"}
NUMBERS = ("gpus_per_node", "cpus_per_task", "nodes", "cpus_per_gpu", "gpus_per_task")
DEFAULT_TIME = "24:00:00"
LOCAL_NAMES = ("gpus_per_node", "timeout_min")


def make_executor(folder: Path, settings: Mapping[str, Any]) -> Any:
    """A submitit executor whose jobs get what `settings` ask for.

    Raises
    ------
    UsageError : SLURM has no setting of a given name.
    """
    import submitit

    cluster = str(settings.get("cluster", "slurm"))
    wanted = {NAMES.get(key, key): value for key, value in settings.items() if key not in OWN}
    values = {key: int(value) if key in NUMBERS and str(value).isdigit() else value for key, value in wanted.items()}
    values["time"] = minutes(str(values.get("time", DEFAULT_TIME)))
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(name="milbench", **_for(cluster, values))
    except (NameError, TypeError, ValueError) as error:
        raise UsageError(f"engine.slurm: {str(error).splitlines()[0]}") from error
    return executor


def _for(cluster: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names that submitit knows; processes on this machine have only a few of them."""
    if cluster == "slurm":
        return {f"slurm_{key}": value for key, value in values.items()}
    known = {**values, "timeout_min": values["time"]}
    if "gpus_per_node" in known:  # "a100:1" names a model of GPU, which only SLURM knows
        known["gpus_per_node"] = int(str(known["gpus_per_node"]).rpartition(":")[2])
    return {key: value for key, value in known.items() if key in LOCAL_NAMES}


def minutes(time: str) -> int:
    """Minutes, at least one, of a time as SLURM writes it: "90", "90:00", "24:00:00", "2-0", "2-12:30".

    Raises
    ------
    UsageError : the text is no such time.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if match is None:
        raise UsageError(f"engine.slurm.time is '{time}'; expected SLURM's notation, such as 24:00:00 or 2-12:00:00.")
    days, first, second, third = (None if part is None else int(part) for part in match.groups())
    if days is not None or third is not None:  # d-h[:m[:s]] or h:m:s
        return max(1, (days or 0) * 1440 + (first or 0) * 60 + (second or 0))
    return max(1, first or 0)
