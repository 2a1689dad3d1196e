"""Try the locks of the file system in the empty folder that is named, and tell of each what came of it (`child.py` runs this)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path


def main(folder: Path) -> None:
    """Tell the name of each kind of lock before it is tried, then what is wrong with it; "" if nothing is."""
    for kind, attempt in KINDS.items():
        tell({"lock": kind})
        tell({"lock": kind, "wrong": tried(attempt, folder / kind)})


def tell(values: Mapping[str, str]) -> None:
    """Print a line that is read even if the process hangs in the next moment."""
    print(sys.argv[1] + json.dumps(values), flush=True)  # noqa: T201


def tried(attempt: Callable[[Path], bool], path: Path) -> str:
    """What is wrong with a lock on `path`."""
    try:
        return "" if attempt(path) else "has no effect: two hold one lock at the same time"
    except Exception as error:  # noqa: BLE001 - HDF5 raises what it likes
        reason = (error.strerror if isinstance(error, OSError) else "") or next(iter(str(error).splitlines()), "")
        return f"fails ({reason or type(error).__name__})"


def flock(path: Path) -> bool:
    """Whether a second `flock` on a file is refused: the locks of trials."""
    import fcntl

    with path.open("w") as first, path.open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def posix(path: Path) -> bool:
    """Whether another process is refused a POSIX lock on a file: the locks of SQLite."""
    import fcntl

    with path.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        pid = os.fork()
        if pid == 0:
            _leave_with_success_if_locked(path)
        return os.waitpid(pid, 0)[1] == 0


def _leave_with_success_if_locked(path: Path) -> None:
    import fcntl

    code = 1
    try:
        with path.open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        code = 0
    finally:
        os._exit(code)


def hdf5(path: Path) -> bool:
    """True once an HDF5 file was written and read again, with the locks that HDF5 takes here."""
    import h5py

    with h5py.File(path, "w") as file:
        file["features"] = [1.0]
    with h5py.File(path) as file:
        return bool(file["features"][0] == 1.0)


KINDS: Mapping[str, Callable[[Path], bool]] = {"flock": flock, "fcntl": posix, "HDF5": hdf5}

if __name__ == "__main__":
    main(Path(sys.argv[2]))
