"""Pasteable: a path as a shell takes it from where the reader stands."""

from __future__ import annotations

from pathlib import Path
from shlex import quote


def pasteable(path: Path) -> str:
    """The path quoted for a shell: relative to the current folder where it lies inside, else whole.

    A report is written from the folder whose commands it prints, so that one under it moves with the project.
    """
    whole = path.absolute()
    here = Path.cwd()
    return quote(str(whole.relative_to(here) if whole.is_relative_to(here) else whole))
