"""Claims: who works on what right now, in small files that anyone may read: host, process and since when.

Of a trial the file lock decides who may compute it (`run_writing.claim`), and the claim beside it only tells. Elsewhere the
claim decides (`take`): slides of an extraction, folders that one command alone may write. A claim that outlives its process
is a trace of a violent death and holds nobody up.
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

from milbench.errors import StoreError, UsageError
from milbench.store.files import json_bytes
from milbench.store.headers import CLAIM_SHAPE, read_json
from milbench.store.run_folder import CLAIMS
from milbench.visible import visible_line

HEARTBEAT_SECONDS = 30.0
SILENT_SECONDS = 4 * HEARTBEAT_SECONDS
"""Seconds without a heartbeat after which a process on another host counts as dead."""

LATEST = 2.0**32
"""Of what a damaged claim may say, in seconds since 1970: in 2106."""

TRIES, PAUSE_SECONDS = 5, 0.05
"""How often a claim is tried that another process deletes or writes at the same moment."""

_held: set[Path] = set()


@dataclass(frozen=True)
class Claim:
    """One process at work on one thing.

    Attributes
    ----------
    key : the trial's, or the name of what else it works on.
    host, pid, born : the process; `born` is its creation time, since a system uses pids again.
    since : when it took it, in seconds since 1970 on its own clock.
    """

    key: str
    host: str
    pid: int
    born: float
    since: float

    def __str__(self) -> str:
        """Process, host and since when the process runs, as people read them."""
        began = time.localtime(min(max(self.born, 0.0), LATEST))
        is_today = began[:3] == time.localtime()[:3]
        clock = time.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M", began)
        return f"process {self.pid} on {visible_line(self.host)}, since {clock}"


@contextmanager
def claimed(folder: Path, key: str) -> Iterator[None]:
    """Tell others, as long as the block runs, that this process computes the trial; if the disk is full, the trial runs on."""
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        _path(folder, key).unlink(missing_ok=True)
        _write(folder, key)
    _keep(folder, key)
    try:
        yield
    finally:
        let_go(folder, key)


def take(folder: Path, key: str) -> Claim | None:
    """The claim of the living process that holds `key`; None if it is this process's from now on, until `let_go`.

    A file is made by one process only, so two never take one key. Of a key whose holder died, two may delete the old claim in
    the same millisecond and both go on: what they write is put in place whole, and the work is done twice, once.
    """
    for _ in range(TRIES):
        try:
            folder.mkdir(exist_ok=True)
            _write(folder, key)
            break
        except FileExistsError:
            holder = read_claim(folder, key)
            if holder is not None and is_alive(folder, holder):
                return holder
            if holder is not None or _is_silent(_path(folder, key)):
                with suppress(OSError):
                    _path(folder, key).unlink(missing_ok=True)
            else:  # being written right now
                time.sleep(PAUSE_SECONDS)
        except FileNotFoundError:  # another process has just deleted the empty folder
            time.sleep(PAUSE_SECONDS)
        except OSError:
            break  # whoever writes its results here meets the same, and says so
    _keep(folder, key)
    return None


def let_go(folder: Path, key: str) -> None:
    """End this process's claim."""
    _held.discard(_path(folder, key))
    with suppress(OSError):
        _path(folder, key).unlink(missing_ok=True)


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Inside, no other process works on `what` in `folder`, which is there; an empty folder of claims is deleted behind it.

    Raises
    ------
    UsageError : another one does.
    """
    claims = folder / CLAIMS
    holder = take(claims, what.replace(" ", "-"))
    if holder is not None:
        raise UsageError(
            f"another `milbench {what}` is writing {folder} ({holder}). Wait until it has ended, then give the same command "
            "again, or name another folder with --out."
        )
    try:
        yield
    finally:
        let_go(claims, what.replace(" ", "-"))
        with suppress(OSError):
            claims.rmdir()


def living(folder: Path) -> list[Claim]:
    """Claims of processes that are at work, in the order in which the processes began."""
    claims = (read_claim(folder, path.stem) for path in folder.glob("*.json"))
    return sorted((claim for claim in claims if claim and is_alive(folder, claim)), key=lambda claim: claim.born)


def read_claim(folder: Path, key: str) -> Claim | None:
    """The claim on a trial; None where there is none, or one half-written."""
    try:
        return Claim(**read_json(_path(folder, key), CLAIM_SHAPE))
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
    return not _is_silent(_path(folder, claim.key))


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key}.json"


def _is_silent(path: Path) -> bool:
    """Whether a claim has had no heartbeat for long, or is gone."""
    with suppress(OSError):
        return time.time() - path.stat().st_mtime >= SILENT_SECONDS
    return True


def _write(folder: Path, key: str) -> None:
    """Write this process's claim into a new file; raises FileExistsError where there is one, a link included."""
    claim = Claim(key, socket.gethostname(), os.getpid(), psutil.Process().create_time(), time.time())
    with _path(folder, key).open("xb") as file:
        file.write(json_bytes(asdict(claim)))


def _keep(folder: Path, key: str) -> None:
    """Renew the claim until it is let go."""
    _held.add(_path(folder, key))
    _heart(os.getpid())


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
