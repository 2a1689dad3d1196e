"""The commit that milbench's text is of: asked of its own checkout, or recorded when it was packed.

`setup.py` loads this file by its path to record the commit, so that it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

RECORD = "COMMIT"
"""File in the package of a wheel or a source archive: the commit that it was made from."""
GIT_SECONDS = 20.0


def commit_of(package: Path) -> str:
    """Commit of the text in `package`, with "-dirty" where tracked files differ from it; "" if nobody knows.

    A package in a checkout asks git. An installed one reads what was recorded. The repository that a user stands in, or
    keeps an environment in, is never asked: its commit says nothing about milbench.
    """
    record = package / RECORD
    if record.is_file():
        return record.read_text(encoding="utf-8").strip()
    return _commit_of_checkout(package)


def _commit_of_checkout(package: Path) -> str:
    """The commit of the checkout whose top folder holds `package`, tracked; "" elsewhere."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        return subprocess.run(  # noqa: S603 - our own words
            command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS, env=_without_git_settings()
        ).stdout.strip()

    try:
        if git("rev-parse", "--show-prefix") != f"{package.name}/":
            return ""
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _without_git_settings() -> dict[str, str]:
    """The environment without GIT_DIR and its like, which a hook sets and which would name another repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
