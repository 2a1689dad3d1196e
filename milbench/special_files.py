"""Special files: pipes, sockets and devices. They are refused unopened, since reading one may wait for ever."""

from __future__ import annotations

import os
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
    return _kind_of(_mode_of(path))


def refuse_special(path: Path, error: type[MilbenchError]) -> int:
    """Mode of what lies at `path`, 0 if nothing does; raises `error` if it is a pipe, a socket or a device."""
    mode = _mode_of(path)
    if kind := _kind_of(mode):
        raise error(f"{path} is {kind}, not a file, and was not opened. Put a regular file in its place.")
    return mode


def _mode_of(path: Path) -> int:
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - a third faster than by Path, for each read of a slide
    except (OSError, ValueError):  # a name that no file can have is a ValueError
        return 0


def _kind_of(mode: int) -> str:
    return "" if stat.S_ISREG(mode) else next((kind for is_kind, kind in KINDS if is_kind(mode)), "")
