"""Unchanged: what is remembered of a file as long as it stays as it is. A run reads a slide once per epoch, and checks it once."""

from __future__ import annotations

import os
from pathlib import Path

MOST_REMEMBERED = 100_000
_passed: set[tuple[object, ...]] = set()
"""Files and datasets that passed a check, as they are (`of_content`)."""


def of_content(path: str | bytes | Path, *what: str) -> tuple[object, ...]:
    """A key of something in a file, which changes when the file does."""
    facts = os.stat(path)  # noqa: PTH116 - of a name that h5py told, for each dataset of each read
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, *what)


def passed(key: tuple[object, ...]) -> bool:
    """Whether `note_passed` was told so."""
    return key in _passed


def note_passed(key: tuple[object, ...]) -> None:
    """Remember that what `key` stands for is sound. What other files have a say in must not be noted."""
    if len(_passed) >= MOST_REMEMBERED:
        _passed.clear()
    _passed.add(key)
