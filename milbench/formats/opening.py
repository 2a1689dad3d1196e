"""Opening: the one door to a feature file. Whatever a library says of odd bytes becomes one message that names the file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from milbench.errors import FeatureFileError, MilbenchError
from milbench.special_files import refuse_special

BEGINNING = 512
"""Bytes that tell what a file is."""

MISTAKEN: tuple[tuple[bytes, str, str], ...] = (
    (b"<!doctype html", "an HTML page", "Its download got a web page, perhaps of a login. Download it again."),
    (b"<html", "an HTML page", "Its download got a web page, perhaps of a login. Download it again."),
    (b"<?xml", "an XML page", "Its download got an answer of the server, perhaps an error. Download it again."),
    (b"version https://git-lfs", "a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it."),
    (b"\x89hdf\r\n", "an HDF5 file", "Give it the ending .h5."),
    (b"\x93numpy", "a NumPy file", "Give it the ending .npy."),
)
"""How files begin that lie under another format's name, in small letters, what they are and what to do."""


NOT_OPENED = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EIO,
    errno.ESTALE,
)
"""Errors of the system that say nothing of a file's content: to extract it again would not help."""

WITHOUT_NUMBER: dict[type[OSError], int] = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}
"""Numbers of errors that safetensors raises without."""

MOST_NAMES = 5
"""Names of a file's contents that a message lists."""


@contextmanager
def failing_clearly(path: Path, expected: str, fix: str, *, folder: bool = False) -> Iterator[None]:
    """Turn what a library raises inside into a `FeatureFileError`; a pipe, a device or a folder is refused before.

    Parameters
    ----------
    expected : what the file should be, such as "NumPy file".
    fix : what to do if it is not.
    folder : whether the slide is a folder of files, as a store of zarr is.
    """
    mode = refuse_special(path, FeatureFileError)
    if stat.S_ISDIR(mode) and not folder:
        raise FeatureFileError(f"{path} is a folder, not a file. Move it away, and put the slide's file in its place.")
    if stat.S_ISREG(mode) and folder:
        raise FeatureFileError(f"{path} is a file, not a folder. Unpack it, or extract this slide again.")
    try:
        yield
    except MilbenchError:
        raise
    except OSError as error:
        number = error.errno or WITHOUT_NUMBER.get(type(error))
        if number in NOT_OPENED:
            raise FeatureFileError(not_opened(path, number)) from error
        raise FeatureFileError(unreadable(path, expected, reason_of(error), fix)) from error
    # odd bytes make NumPy, torch, zipfile and HDF5 raise what comes: SyntaxError, struct.error, RecursionError, ...
    except Exception as error:
        raise FeatureFileError(unreadable(path, expected, reason_of(error), fix)) from error


def not_opened(path: Path, number: int) -> str:
    """A sentence that says why the system does not open `path`, by the number of its error."""
    where = f", a link to {path.readlink()}," if path.is_symlink() and not path.exists() else ""
    return f"{path}{where} cannot be read: {os.strerror(number)}. Check the file and its rights."


def listed(names: Iterable[object]) -> str:
    """The first names, and how many more there are; "nothing" if there are none."""
    every = [str(name) for name in names]
    more = f" and {len(every) - MOST_NAMES} more" if len(every) > MOST_NAMES else ""
    return ", ".join(islice(every, MOST_NAMES)) + more or "nothing"


def unreadable(path: Path, expected: str, reason: str, fix: str) -> str:
    """A sentence that says why `path` cannot be read: what it is instead, if its first bytes tell, else `reason`."""
    what, instead = mistaken(path)
    if what and not what.endswith(f" {expected}"):
        return f"{path} is {what}, no {expected}. {instead}"
    if path.exists() and not path.stat().st_size:
        reason = "it is empty"
    return f"{path} is no readable {expected}{f' ({reason})' if reason else ''}. {fix}"


def mistaken(path: Path) -> tuple[str, str]:
    """What a file is by its first bytes, if it is not what its name says, and what to do; empty if they do not tell."""
    try:
        with path.open("rb") as file:
            start = file.read(BEGINNING)
    except OSError:
        return "", ""
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next(((what, fix) for begins, what, fix in MISTAKEN if start.startswith(begins)), ("", ""))


def reason_of(error: Exception) -> str:
    """The first line of a library's error, or the error's kind; empty if it advises to switch its own safety off."""
    if isinstance(error, SystemError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # Python's own tells of h5py's insides, with an address that differs from run to run
    said = str(
        error.args[0] if isinstance(error, KeyError) and error.args else error
    )  # Python quotes a KeyError's words
    reason = next(iter(said.splitlines()), "") or type(error).__name__
    return "" if any(word in reason for word in ("weights_only", "allow_pickle=True")) else reason.rstrip(".")
