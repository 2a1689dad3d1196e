"""Control groups: what a container or a batch job (Docker, SLURM) allows this process of the machine's cores and memory.

The machine's own numbers, as psutil tells them, do not know of it: a process that counts on them is killed without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import NamedTuple

MEMBERSHIP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")

UNLIMITED = 1 << 60
"""Version 1 of control groups says "no limit" with a number near 2 ** 63."""


class Limits(NamedTuple):
    """What the control groups of this process allow; None = as much as there is.

    Attributes
    ----------
    cores : processor seconds per second.
    memory : bytes.
    free : bytes of `memory` that are not in use. Pages of files that were read count as free, since the system drops them.
    """

    cores: float | None = None
    memory: int | None = None
    free: int | None = None


def limits_of_groups(membership: Path = MEMBERSHIP, groups: Path = GROUPS) -> Limits:
    """The narrowest limits of the control groups that this process is in, of either version, and of those above them."""
    folders = list(_folders(membership, groups))
    cores = [found for folder in folders if (found := _cores(folder)) is not None]
    memory = [(found, max(found - _used(folder), 0)) for folder in folders if (found := _memory(folder)) is not None]
    return Limits(
        min(cores, default=None),
        min((limit for limit, _ in memory), default=None),
        min((free for _, free in memory), default=None),
    )


def within_cores(cores: int) -> int:
    """As many of `cores` as the control groups allow, at least 1."""
    return max(1, min(cores, int(limits_of_groups().cores or cores)))


def within_memory(n_bytes: int, *, free: bool) -> int:
    """As many of the machine's `n_bytes`, free or in all, as the control groups allow."""
    limits = limits_of_groups()
    allowed = limits.free if free else limits.memory
    return int(min(n_bytes, inf if allowed is None else allowed))


def _folders(membership: Path, groups: Path) -> Iterator[Path]:
    """Folder of each group and of all above it. A container may show its own group as the root."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        for root in (groups / controllers, groups / "unified") if controllers else (groups, groups / "unified"):
            inside = root / place.lstrip("/")
            yield from (each for each in (inside, *inside.parents) if each.is_relative_to(root))


def _cores(folder: Path) -> float | None:
    words = _words(folder / "cpu.max") or [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
    numbers = [int(word) for word in words if word.isdigit()]  # else "max" or -1
    return numbers[0] / numbers[1] if len(numbers) == 2 and numbers[1] else None


def _memory(folder: Path) -> int | None:
    words = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
    return int(words[0]) if words and words[0].isdigit() and int(words[0]) < UNLIMITED else None


def _used(folder: Path) -> int:
    """Bytes in use by the group, without pages of files that nothing has touched lately."""
    words = _words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes")
    if not words or not words[0].isdigit():
        return 0
    told = _words(folder / "memory.stat")
    stats = dict(zip(told[::2], told[1::2], strict=False))
    files = stats.get("total_inactive_file") or stats.get("inactive_file") or "0"  # version 1, version 2
    return max(int(words[0]) - (int(files) if files.isdigit() else 0), 0)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
