"""Peak: the most memory that a process, or the GPU for it, has held since a moment."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

PROC_STATUS, PROC_CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(device: torch.device) -> int:
    """Peak memory in bytes since `forget_peak`: allocated on a GPU, resident in this process on a CPU.

    Linux's VmHWM, not `ru_maxrss`: a process started by fork and exec inherits the latter from its parent.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _high_water():
        return _high_water()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> bool:
    """Start measuring anew; False where the system can't, and the peak stays the process's, not the trial's.

    Linux resets VmHWM through `clear_refs`; containers and sandboxes may forbid that, or take it and do nothing.
    """
    before = _high_water()
    try:
        PROC_CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return _high_water() < before


def _high_water() -> int:
    """VmHWM in bytes, 0 on a system that doesn't tell."""
    if not PROC_STATUS.exists():
        return 0
    lines = [line for line in PROC_STATUS.read_text().splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) * 1024 if lines else 0
