"""Leftovers: what a process that was killed left in a run folder, and nobody needs any more."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from milbench.store.claims import is_alive, living, read_claim
from milbench.store.files import this_host

SILENT_SECONDS = 24 * 3600.0
"""After so long a half-written file counts as left over, if it is another machine's or does not tell its process."""

PLACES = (
    "", "splits", "splits/*", "labels", "features", "shards", "failures", "checkpoints", "claims", "partial", "external",
    "external/*", "tuning", "tuning/chosen", "untuned",
)  # fmt: skip
"""Folders of a run in which files are written."""

_OWNED = re.compile(r"[.\w].*-([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{12}", flags=re.ASCII)
_OF_OLDER_VERSIONS = re.compile(r"(\..*\.|[0-9a-f]{64}-)[0-9a-f]{32}", flags=re.ASCII)


def leftovers(run: Path) -> list[Path]:
    """Files and folders in a run that a dead process was writing, and claims of dead processes of this machine."""
    folders = [folder for place in PLACES for folder in ([run] if not place else run.glob(place))]
    found = [path for folder in folders for path in abandoned(folder)]
    return sorted([*found, *dead_claims(run / "claims")])


def abandoned(folder: Path) -> list[Path]:
    """Files and folders in `folder` that a dead process was writing; none where a link leads, or nothing is."""
    if not folder.is_dir() or folder.is_symlink():
        return []
    return [path for path in folder.iterdir() if _is_abandoned(path)]


def is_at_work(run: Path) -> bool:
    """Whether a living process computes a trial of the run."""
    return bool(living(run / "claims"))


def delete(paths: list[Path]) -> None:
    """Delete what is left over; what another process deletes meanwhile, or the system refuses, is passed over."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def size_of(paths: list[Path]) -> int:
    """Bytes that the files and folders take."""
    files = [file for path in paths for file in ([path] if not path.is_dir() else path.rglob("*"))]
    return sum(_bytes(file) for file in files)


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _is_abandoned(path: Path) -> bool:
    if match := _OWNED.fullmatch(path.name):
        return not psutil.pid_exists(int(match[2])) if match[1] == this_host() else _is_silent(path)
    return bool(_OF_OLDER_VERSIONS.fullmatch(path.name)) and _is_silent(path)


def _is_silent(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > SILENT_SECONDS
    return False


def dead_claims(folder: Path) -> Iterator[Path]:
    """Claims of dead processes of this machine."""
    for path in folder.glob("*.json"):
        claim = read_claim(folder, path.stem)
        if claim is not None and claim.host == os.uname().nodename and not is_alive(folder, claim):
            yield path
