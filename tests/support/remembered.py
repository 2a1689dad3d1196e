"""Folders that many tests make alike, each to write into: what one call made, the next one writes down."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def remembered(opened: Callable[[Path], T]) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Decorator of functions that fill the folder `path` by their other arguments alone.

    Parameters
    ----------
    opened : what the function returns of a folder that is filled.
    """

    def decorated(make: Callable[..., T]) -> Callable[..., T]:
        kept: dict[str, dict[str, bytes | None]] = {}

        @wraps(make)
        def call(path: Path, **options: Any) -> T:
            if path.exists() and any(path.iterdir()):  # what lies there would be remembered too
                return make(path, **options)
            key = repr(sorted(options.items()))
            if key in kept:
                write(path, kept[key])
                return opened(path)
            made = make(path, **options)
            kept[key] = content(path)
            return made

        return call

    return decorated


def content(folder: Path) -> dict[str, bytes | None]:
    """Bytes of every file below the folder, None for folders, which come before what is in them."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


def write(folder: Path, content: dict[str, bytes | None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, held in content.items():
        if held is None:
            (folder / name).mkdir(exist_ok=True)
        else:
            (folder / name).write_bytes(held)
