"""Claims: who computes which trial right now, in small files that anyone may read.

The file lock decides who may compute a trial (`run_writing.claim`); the claim beside it only tells: host, process
and since when. A claim that outlives its process is a trace of a violent death and says nothing to the lock.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import psutil

from milbench.errors import StoreError
from milbench.store.files import json_bytes
from milbench.store.headers import CLAIM_SHAPE, read_json

HEARTBEAT_SECONDS = 30.0
SILENT_SECONDS = 4 * HEARTBEAT_SECONDS
"""Seconds without a heartbeat after which a process on another host counts as dead."""

_held: set[Path] = set()


@dataclass(frozen=True)
class Claim:
    """One process at work on one trial.

    Attributes
    ----------
    key : the trial's.
    host, pid, born : the process; `born` is its creation time, since a system uses pids again.
    since : when it took the trial, in seconds since 1970 on its own clock.
    """

    key: str
    host: str
    pid: int
    born: float
    since: float


@contextmanager
def claimed(folder: Path, key: str) -> Iterator[None]:
    """Tell others, as long as the block runs, that this process computes the trial; if the disk is full, the trial runs on."""
    path = folder / f"{key}.json"
    claim = Claim(key, socket.gethostname(), os.getpid(), psutil.Process().create_time(), time.time())
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        with path.open("xb") as file:  # a new file: a link that stood there is not followed
            file.write(json_bytes(asdict(claim)))
    _held.add(path)
    _heart(os.getpid())
    try:
        yield
    finally:
        _held.discard(path)
        with suppress(OSError):
            path.unlink(missing_ok=True)


def read_claim(folder: Path, key: str) -> Claim | None:
    """The claim on a trial; None where there is none, or one half-written."""
    try:
        return Claim(**read_json(folder / f"{key}.json", CLAIM_SHAPE))
    except (StoreError, TypeError):
        return None


def is_alive(folder: Path, claim: Claim) -> bool:
    """Whether the claim's process is still at work: asked of the system here, judged by heartbeats elsewhere."""
    if claim.host == socket.gethostname():
        with suppress(psutil.Error):
            process = psutil.Process(claim.pid)
            # a zombie computes nothing; it stays for ever where a killed parent has left it to a container's first process
            return bool(process.create_time() == claim.born and process.status() != psutil.STATUS_ZOMBIE)
        return False
    with suppress(OSError):
        return time.time() - (folder / f"{claim.key}.json").stat().st_mtime < SILENT_SECONDS
    return False


@cache
def _heart(pid: int) -> threading.Thread:
    """The thread that renews this process's claims while they are held."""
    thread = threading.Thread(target=_beat, daemon=True, name="heartbeat")
    thread.start()
    return thread


def _beat() -> None:
    while True:
        time.sleep(HEARTBEAT_SECONDS)
        for path in list(_held):
            with suppress(OSError):
                os.utime(path)
