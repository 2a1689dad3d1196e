"""The processor: what Linux says of it."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


def is_amd() -> bool:
    """Whether an AMD processor computes here."""
    return "AuthenticAMD" in _vendor()


@cache
def _vendor() -> str:
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return platform.processor()  # on Windows the vendor stands in it
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("vendor_id")), "")
