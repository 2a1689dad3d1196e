"""Special files: pipes, sockets and devices. They are refused unopened, since reading one may wait for ever."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from milbench.errors import MilbenchError

KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def special_kind(path: Path) -> str:
    """What kind of special file lies at `path`, links followed; empty for a file, a folder, or nothing."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # a name that no file can have is a ValueError
        return ""
    return next((kind for is_kind, kind in KINDS if is_kind(mode)), "")


def refuse_special(path: Path, error: type[MilbenchError]) -> None:
    """Raise `error` if `path` is a pipe, a socket or a device."""
    if kind := special_kind(path):
        raise error(f"{path} is {kind}, not a file, and was not opened. Put a regular file in its place.")
