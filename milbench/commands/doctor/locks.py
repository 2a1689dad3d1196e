"""Locks: whether file locks work where the runs lie, by trying them in a folder that is deleted again."""

from __future__ import annotations

import tempfile
from pathlib import Path

from milbench.commands.doctor.child import run_script
from milbench.commands.doctor.disks import existing
from milbench.commands.doctor.section import Remark, Section

LOCK_SECONDS = 20.0
"""A lock on a network file system whose lock server is gone is waited for without end."""

FIXES = {
    "flock": "Put the run folder on a file system with locks (--run); docs/scaling.md lists some. Until then start one "
    "command per run folder.",
    "fcntl": "Put the MLflow database on a local disk or a server (--tracking-uri), or use --no-tracking.",
    "HDF5": "Set the environment variable HDF5_USE_FILE_LOCKING=FALSE while nothing writes the files.",
}
"""What to do if a kind of lock does not work: trials take flock, SQLite takes fcntl's, HDF5 takes its own."""


def locks_at(runs: Path) -> Section:
    """What came of each kind of lock in the folder of runs, or in the folder where it would be made."""
    place = existing(runs)
    try:
        with tempfile.TemporaryDirectory(prefix=".milbench-doctor-", dir=place, ignore_cleanup_errors=True) as folder:
            told = run_script("try_locks.py", folder, seconds=LOCK_SECONDS)
    except OSError as error:
        what = f"Nothing can be written into {place} ({error.strerror})."
        fix = "Choose another folder with --run, or change its rights."
        return Section("locks", f"not tried: {what}", {"folder": str(place)}, (Remark(what, fix),))
    wrong: dict[str, str] = {line["lock"]: line.get("wrong", f"fails ({told.ended})") for line in told.lines}
    broken = tuple(Remark(f"{kind} locks in {place}: {why}.", FIXES[kind]) for kind, why in wrong.items() if why)
    text = ", ".join(f"{kind} {why or 'works'}" for kind, why in wrong.items()) or f"not tried ({told.ended})"
    values = {"folder": str(place), **{kind: why or "works" for kind, why in wrong.items()}}
    return Section("locks", f"in {place}: {text}", values, broken)
