"""GPUs: every worker process holds one place on one GPU and sees no other GPU.

Places are file locks on this machine, so two milbench commands share its GPUs instead of both using the first.
`CUDA_VISIBLE_DEVICES` must be set before the worker imports torch: this module must not import it.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from milbench.errors import UsageError

VISIBLE = "CUDA_VISIBLE_DEVICES"
WAIT_SECONDS = 0.5

_held: list[FileLock] = []
"""The place of this process. However the process ends, the system frees it."""


def places(asked: str, per_gpu: int, n_gpus: int) -> tuple[str, ...]:
    """GPU of every place that workers may take; each GPU gets one place before any gets a second.

    Parameters
    ----------
    asked : "all", a number of GPUs ("2"), or their numbers ("0,1"; "1," for one); "" = no placement.
    per_gpu : workers on each GPU.
    n_gpus : how many GPUs there are if the environment does not list them.

    Raises
    ------
    UsageError : a GPU that does not exist.
    """
    if not asked:
        return ()
    visible = [gpu for gpu in os.environ.get(VISIBLE, "").split(",") if gpu] or [str(i) for i in range(n_gpus)]
    return tuple(gpu for _ in range(per_gpu) for gpu in _chosen(asked, visible))


def _chosen(asked: str, visible: list[str]) -> list[str]:
    if asked == "all":
        numbers = list(range(len(visible)))
    elif asked.isdigit():
        numbers = list(range(int(asked)))
    else:
        words = [word.strip() for word in asked.split(",") if word.strip()]
        if not words or not all(word.isdigit() for word in words):
            raise UsageError(f"--gpus takes all, a number of GPUs (2) or their numbers (0,1); got '{asked}'.")
        numbers = [int(word) for word in words]
    if not numbers or max(numbers) >= len(visible):
        raise UsageError(
            f"--gpus {asked}: this process sees {len(visible)} GPUs. A number alone counts GPUs (--gpus 2); "
            "with a comma it names them ('0,' is the first). Ask for GPUs that exist, or leave --gpus out."
        )
    return [visible[number] for number in numbers]


def take_place(gpus: tuple[str, ...]) -> str:
    """GPU that this process now has a place on. If other commands hold all places, it waits for one."""
    folder = Path(tempfile.gettempdir()) / f"milbench-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        for number, gpu in enumerate(gpus):
            lock = FileLock(folder / f"{gpu.replace('/', '-')}.{gpus[:number].count(gpu)}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _held.append(lock)
            os.environ[VISIBLE] = gpu
            return gpu
        time.sleep(WAIT_SECONDS)
