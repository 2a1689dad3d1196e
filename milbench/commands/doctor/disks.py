"""Disks: free space and file system of the folders that milbench writes into."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from milbench.commands.doctor.section import Remark, Section
from milbench.commands.kept_facts import facts_folder
from milbench.machine.sizes import bytes_text

MOUNTS = Path("/proc/self/mountinfo")

FULL_BYTES = 100_000_000
"""With less free space any run may end with a full disk."""

SCARCE_BYTES = 5_000_000_000
"""With less free space a run that keeps large weights may."""


class Disk(NamedTuple):
    """A folder that is written into, and the file system that it is on; `path` is the folder or where it would be made."""

    use: str
    path: Path
    free: int
    total: int
    kind: str


def disks_of(runs: Path) -> Section:
    """Free space of the folder of runs, the cache and the folder of temporary files."""
    disks = [disk(use, path) for use, path in _places(runs).items()]
    texts = [f"{d.use} ({d.path}) {bytes_text(d.free)} free of {bytes_text(d.total)}, {d.kind}" for d in disks]
    values = {d.use: _plain(d) for d in disks}
    broken = tuple(_of_space(d) for d in disks if d.free < FULL_BYTES)
    notes = tuple(_of_space(d) for d in disks if FULL_BYTES <= d.free < SCARCE_BYTES)
    return Section("disk", "; ".join(texts), values, (*broken, *_closed(disks)), notes)


def disk(use: str, path: Path) -> Disk:
    """The file system of a folder, or of the nearest folder above it that is there."""
    there = existing(path)
    usage = shutil.disk_usage(there)
    return Disk(use, there, usage.free, usage.total, file_system(there))


def existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    return next(each for each in (path, *path.absolute().parents) if each.is_dir())


def file_system(path: Path, mounts: Path = MOUNTS) -> str:
    """Kind of the file system that holds `path`, such as "ext4", "nfs4" or "lustre"; "unknown" if nobody tells."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown file system"
    found = [(_unescaped(line.split()[4]), line.partition(" - ")[2].split()[0]) for line in lines if " - " in line]
    above = {*map(str, (path.resolve(), *path.resolve().parents))}
    # of two mounts at one place, the later one is seen
    kinds = [kind for place, kind in sorted(found, key=lambda each: len(each[0])) if place in above]
    return kinds[-1] if kinds else "unknown file system"


def _unescaped(place: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place)


def _places(runs: Path) -> dict[str, Path]:
    cache = facts_folder()
    return {"runs": runs, **({"cache": cache.parent} if cache else {}), "temp": Path(tempfile.gettempdir())}


def _plain(found: Disk) -> dict[str, Any]:
    return {**found._asdict(), "path": str(found.path)}


def _of_space(found: Disk) -> Remark:
    return Remark(
        f"{found.path} ({found.use}) has {bytes_text(found.free)} left.", "Delete something, or write elsewhere."
    )


def _closed(disks: list[Disk]) -> tuple[Remark, ...]:
    """Temporary files need a folder; the locks try the folder of runs, and without a cache commands are slower only."""
    return tuple(
        Remark(
            f"{d.path} ({d.use}) cannot be written into.", "Change its rights, or set the environment variable TMPDIR."
        )
        for d in disks
        if d.use == "temp" and not os.access(d.path, os.W_OK)
    )
