"""Unchanged: what is remembered of a file as long as it stays as it is. A run reads a slide once per epoch, and checks it once.

A header is asked for by the check, the plan, the estimate and each reader of a run. It is read once per process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from milbench.formats.lock import lock_free_after_fork

MOST_REMEMBERED = 100_000
_remembered: dict[tuple[object, ...], Any] = {}
"""What was found in files, as they are (`of_content`)."""

_remembering = lock_free_after_fork()
Found = TypeVar("Found")


def of_content(path: str | bytes | Path, *what: str) -> tuple[object, ...]:
    """A key of something in a file, which changes when the file does."""
    return of_facts(os.stat(path), *what)  # noqa: PTH116 - a third faster than by Path, for each read


def of_facts(facts: os.stat_result, *what: str) -> tuple[object, ...]:
    """The same of what the system tells of a file."""
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, *what)


def remembered(key: tuple[object, ...]) -> Any:
    """What `remember` was told; None if nothing was."""
    with _remembering:
        return _remembered.get(key)


def remember(key: tuple[object, ...], found: object) -> None:
    """Remember what was found. What other files have a say in must not be remembered, nor what is changed later."""
    with _remembering:
        if len(_remembered) >= MOST_REMEMBERED:
            _remembered.clear()
        _remembered[key] = found


def forget_all() -> None:
    """Ask all files again."""
    with _remembering:
        _remembered.clear()


def once_per_content(find: Callable[[Path], Found]) -> Callable[[Path], Found]:
    """`find`, which looks into one file, and does so again only where that was changed. An error is not remembered."""

    @wraps(find)
    def found_once(path: Path) -> Found:
        try:
            key = of_content(path, find.__module__, find.__name__, str(path))
        except (OSError, ValueError):  # a name that no file can have is a ValueError
            return find(path)
        if (known := remembered(key)) is not None:
            return known  # type: ignore[no-any-return]
        found = find(path)
        remember(key, found)
        return found

    return found_once
