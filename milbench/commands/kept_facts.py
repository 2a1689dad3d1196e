"""Kept facts: what a command found out of milbench's own sources, kept so that the next call imports neither them nor torch.

Facts lie as JSON in the user's cache folder, one small file each::

    ~/.cache/milbench/facts/<first 32 digits of the key>/models.json    {"key": ..., "hash": ..., "facts": ...}

The key is a hash of every source file of milbench and of the packages that bring its models, and of the versions and flags
that their answers depend on. If anything changes, the key is another one and nothing is found. Facts of plug-ins and of
packages of others are never kept: their code may read other files, so it is run each time. The hash of the facts tells a
file that was damaged.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import milbench
from milbench.registry import has_packages_of_others, packages_of_ours

FORMAT = "2"
"""Part of the key, to leave behind all that was kept before."""

COUNTED_WITH = ("torch", "numpy")
"""Packages that a model's costs are counted with."""

MOST_KEYS = 4
"""Folders that are kept: one per milbench, Python and torch that was used last."""

MOST_BYTES = 4_000_000
"""Of a file of facts. The largest made here has 30 thousand."""


class KeptFacts:
    """Facts of milbench's own sources, kept between calls of the command.

    Parameters
    ----------
    group : entry points that bring what the facts are of.
    module : milbench's module that holds what was registered. If the process has imported it, plug-ins may have registered
        more, so nothing kept is looked at.
    is_plain : whether the command names no plug-ins.
    """

    def __init__(self, group: str, module: str, *, is_plain: bool) -> None:
        usable = is_plain and module not in sys.modules and not has_packages_of_others(group)
        self.key = sources_key() if usable else ""
        self.folder = facts_folder()

    def get(self, name: str, parse: Callable[[Any], Any]) -> Any:
        """What `parse` makes of the facts called `name`; None if there are none for these sources."""
        if not self.key or self.folder is None:
            return None
        with suppress(OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
            path = self.folder / self.key[:32] / f"{name}.json"
            if path.stat().st_size > MOST_BYTES:
                return None
            kept = json.loads(path.read_bytes())
            is_whole = (kept["key"], kept["hash"]) == (self.key, _hash_of(kept["facts"]))
            return parse(kept["facts"]) if is_whole else None
        return None

    def put(self, name: str, facts: Any) -> None:
        """Keep `facts`, in one atomic step. Nothing happens if they cannot be kept, or the sources have changed meanwhile."""
        if not self.key or self.folder is None or sources_key() != self.key:
            return
        from milbench.errors import StoreError
        from milbench.store.files import json_bytes, write_atomically

        folder = self.folder / self.key[:32]
        with suppress(OSError, StoreError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept = {"key": self.key, "hash": _hash_of(facts), "facts": facts}
            write_atomically(folder / f"{name}.json", json_bytes(kept))
            _forget_all_but_the_newest(self.folder)


def sources_key() -> str:
    """Hash of the sources of milbench and its models, and of the versions that their facts depend on; "" if it cannot tell.

    Contents are read: a file's time stays the same if an archive is unpacked, and its size if a digit changes. Times count
    too: where time and size stay the same, Python itself runs what it compiled before, until the time changes. Without
    docstrings (`python -OO`) a page has fewer lines.
    """
    packages = sorted(packages_of_ours())
    if not packages:
        return ""
    digest = hashlib.sha256()
    facts = [FORMAT, milbench.__version__, sys.version, sys.flags.optimize, platform.machine()]
    digest.update(json.dumps([*facts, *map(_version_of, COUNTED_WITH)]).encode())
    try:
        for package in ("milbench", *packages):
            files = _sources_of(package)
            if not files:
                return ""
            for name, path in files:
                content = path.read_bytes()
                digest.update(json.dumps([package, name, len(content), path.stat().st_mtime_ns]).encode())
                digest.update(content)
    except (OSError, ImportError, ValueError):
        return ""
    return digest.hexdigest()


def _hash_of(facts: Any) -> str:
    """Of the facts as a file holds them, where a tuple is a list."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _sources_of(package: str) -> list[tuple[str, Path]]:
    """Name below the package, and path, of each of its source files; nothing of the package is imported."""
    spec = importlib.util.find_spec(package)
    folders = () if spec is None else spec.submodule_search_locations or ()
    return [(path[len(folder) :], Path(path)) for folder in map(str, folders) for path in _python_files(folder)]


def _python_files(folder: str) -> Iterable[str]:
    """Paths below `folder`, in an order that is the same everywhere."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.endswith(".py"):
            yield entry.path
        elif entry.name != "__pycache__" and entry.is_dir():
            yield from _python_files(entry.path)


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def facts_folder() -> Path | None:
    """`facts` in milbench's part of the user's cache folder; None if there is no such place."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    with suppress(RuntimeError):  # no home
        root = Path(named) if named and Path(named).is_absolute() else Path.home() / ".cache"
        return root / "milbench" / "facts" if root.is_absolute() else None
    return None


def _forget_all_but_the_newest(folder: Path) -> None:
    """Delete what other versions kept, except the last few."""
    by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_age[MOST_KEYS:]:
        shutil.rmtree(path, ignore_errors=True)
