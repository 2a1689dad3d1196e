"""Sizes in bytes, as people read and write them."""

from __future__ import annotations

import re

from milbench.errors import UsageError

POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
SIZE = re.compile(
    r"(?P<number>\d+\.?\d*(?:e\+?\d{1,2})?|\.\d+)\s*(?P<prefix>[kmgt]?)(?P<binary>i(?=b))?b?", re.IGNORECASE
)


def bytes_text(n_bytes: float) -> str:
    """Readable size, e.g. "3.2 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.95 or (unit == "B" and n_bytes < 1000):
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def parse_bytes(text: str) -> int:
    """Number of bytes that `text` says: "2GB" (2 x 1000^3), "512 MiB" (512 x 1024^2), "1.5e9"; case does not matter.

    Raises
    ------
    UsageError : anything else.
    """
    found = SIZE.fullmatch(str(text).strip())
    if not found:
        raise UsageError(
            f"'{text}' is no size. Write a number of bytes, or a number with its unit: 16GB, 512 MiB, 1.5e9."
        )
    base = 1024 if found["binary"] else 1000
    factor: int = base ** POWERS[found["prefix"].lower()]
    return round(float(found["number"]) * factor)
