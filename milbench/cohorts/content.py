"""Content: SHA-256 of each slide's whole feature file, remembered by what the file system says of the file.

The fingerprint reads both ends of a file. The content tells an edit in between, also behind links. It is no part of the
fingerprint, since trials of older runs have none; `record.py` tells what follows if it differs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os.path import relpath
from pathlib import Path
from time import time_ns
from typing import NamedTuple

from milbench.errors import FeatureFileError
from milbench.formats.linked import files_of
from milbench.special_files import refuse_special
from milbench.store.files import file_sha256

THREADS = 8
"""Files that are read at once, at most. Hashing needs one core per file; a network file system is faster with several."""

SETTLED_NS = 2_000_000_000
"""A file that was changed so short a time before it was read is read again next time: two changes may get one time stamp."""


class FileState(NamedTuple):
    """What the file system says of a file. If all is as it was, the content is taken to be."""

    path: str
    size: int
    mtime_ns: int
    inode: int


class SlideContent(NamedTuple):
    """Content of one slide's feature file, and of files that it takes values from by links; or of a store's files.

    Attributes
    ----------
    files : state of each file when it was read; empty = too young to be relied upon.
    sha256 : of the file's bytes; if there are linked files, of the hashes of all; of a store, of its files' places in it too.
    """

    files: tuple[FileState, ...]
    sha256: str


def contents(
    files: Mapping[str, Path], known: Mapping[str, SlideContent], *, on_any_machine: bool = False
) -> dict[str, SlideContent]:
    """Content of each slide's file. Only files are read whose state is not that of `known`.

    Parameters
    ----------
    on_any_machine : whether a file of equal size and time is the same one at another path, as another machine sees it.

    Raises
    ------
    FeatureFileError : a file cannot be read, or changes while it is read.
    """
    with ThreadPoolExecutor(min(THREADS, 2 * (os.cpu_count() or 1)), "milbench-hash") as pool:
        look = partial(content_of, known=known, on_any_machine=on_any_machine)
        found = pool.map(look, files, files.values())
        return dict(zip(files, found, strict=True))


def content_of(
    slide: str, path: Path, known: Mapping[str, SlideContent], *, on_any_machine: bool = False
) -> SlideContent:
    """Content of one slide's file. Parameters and errors are those of `contents`."""
    is_as_it_was = _looks_as_it_was if on_any_machine else _is_as_it_was
    try:
        if slide in known and is_as_it_was(path, known[slide].files):
            return known[slide]
        return _read(path)
    except OSError as error:
        raise FeatureFileError(f"{path} cannot be read: {error.strerror}. Check the file and its rights.") from error


def content_sha256(found: Mapping[str, SlideContent], slides: Iterable[str]) -> str:
    """One hash of the contents of all slides, in their order."""
    digest = hashlib.sha256()
    for slide in slides:
        digest.update(f"{slide}\0{found[slide].sha256}\n".encode())
    return digest.hexdigest()


def changed_slides(before: Mapping[str, SlideContent], now: Mapping[str, SlideContent]) -> list[str]:
    """Slides in both whose content differs, in the order of `now`."""
    return [slide for slide in now if slide in before and before[slide].sha256 != now[slide].sha256]


def _is_as_it_was(path: Path, before: tuple[FileState, ...]) -> bool:
    """Whether all files that the content came from are as they were."""
    if path.is_dir():
        return bool(before) and tuple(map(_state, files_of(path))) == before
    is_there = bool(before) and before[0].path == str(path.absolute())
    return is_there and all(_state(Path(file.path)) == file for file in before)


def _looks_as_it_was(path: Path, before: tuple[FileState, ...]) -> bool:
    """Whether a file that holds all its values itself, or each file of a store, has the size and the time that it had."""
    now = tuple(map(_state, files_of(path) if path.is_dir() else (path,)))
    return bool(now) and [file[1:3] for file in now] == [file[1:3] for file in before]


def _read(path: Path) -> SlideContent:
    refuse_special(path, FeatureFileError)
    files, begun = files_of(path), time_ns()
    before = tuple(map(_state, files))
    hashes = [file_sha256(file) for file in files]
    if tuple(map(_state, files)) != before:
        raise FeatureFileError(f"{path} changes while it is read. Wait until the extraction has ended.")
    if path.is_dir():  # equal chunks at other places are other features
        hashes = [f"{relpath(file, path)}\0{sha256}" for file, sha256 in zip(files, hashes, strict=True)]
    sha256 = hashes[0] if len(files) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
    is_settled = all(state.mtime_ns < begun - SETTLED_NS for state in before)
    return SlideContent(before if is_settled else (), sha256)


def _state(path: Path) -> FileState:
    told = path.stat()
    return FileState(str(path.absolute()), told.st_size, told.st_mtime_ns, told.st_ino)
