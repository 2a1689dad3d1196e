"""Files of a run: written whole or not at all, and one clear message where the system or the content refuses."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import socket
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from milbench.errors import StoreError
from milbench.names import is_folder_name
from milbench.special_files import special_kind

if TYPE_CHECKING:
    import pandas as pd

MOST_TABLE_BYTES = 256_000_000
"""Of a table of labels or a split. The largest ever made here, 100,000 slides with 500 tasks, has 200 million."""


AGAIN = "Delete it and start the run's command again, which writes it anew; finished trials are kept."
"""What to do about a damaged header."""


def read(path: Path, parse: Any, most_bytes: int = MOST_TABLE_BYTES) -> Any:
    """What `parse` makes of the file's text.

    Raises
    ------
    StoreError : the file cannot be read, or `parse` does not understand it.
    """
    try:
        refuse_no_plain_file(path, most_bytes)
        content = path.read_bytes().decode()  # as it lies there: a checksum may be taken of the text
        if not content.strip():
            raise ValueError("it is empty")
        return parse(content)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}. Check the file and its rights.") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = "it holds too many lists inside each other" if isinstance(error, RecursionError) else str(error)
        raise StoreError(f"{path} is damaged ({reason}). {AGAIN}") from error


def refuse_no_plain_file(path: Path, most_bytes: int = MOST_TABLE_BYTES) -> None:
    """Raise for what a run never writes: a link may lead anywhere, and reading a pipe or a device may never end.

    Raises
    ------
    OSError : the file is not there.
    ValueError : it is no plain file, or larger than any that a run writes.
    """
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(facts.st_mode) else "no plain file"
        raise ValueError(f"it is {kind}, and inside a run folder milbench follows none")
    if facts.st_size > most_bytes:
        raise ValueError(f"it has {facts.st_size:,} bytes; expected at most {most_bytes:,}")


def inside(root: Path, *names: str) -> Path:
    """`root` / names: the one door from names, which a file may hold, to a path that is read, written or deleted.

    Raises
    ------
    StoreError : a name could lead out of `root`, or a symbolic link on the way does.
    """
    path = root
    for name in names:
        if not is_folder_name(name):
            raise StoreError(f"{ascii(name)[:200]} cannot name a file or folder below {root}: it would lie elsewhere.")
        path /= name
        if path.is_symlink():
            raise StoreError(
                f"{path} is a symbolic link, and inside a run folder milbench follows none. "
                "Replace it by what it points to, or move the whole run folder."
            )
    return path


def text_table(text: str) -> pd.DataFrame:
    """A CSV with every cell as text: ids keep their zeros and are never taken for numbers."""
    import pandas as pd

    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes; raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_bytes(value: Any) -> bytes:
    """JSON with sorted keys: the same value makes the same bytes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
"""What a system says where a file stands in the place of a folder, or a folder in that of a file."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the system's refusals to write into one clear message."""
    try:
        yield
    except OSError as error:
        name = "" if error.filename is None else os.fsdecode(error.filename)
        where = f" ({name})" if name and name != str(folder) else ""
        fix = (
            "Something of another kind stands in its place. Move it away, or choose another place (--run, --out)"
            if error.errno in IN_THE_WAY
            else "Free space or choose another place (--run, --out)"
        )
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error}{where}. {fix}, then give the same command again. "
            "Finished trials are kept."
        ) from error


def temporary_name(start: str) -> str:
    """A name that nobody else uses and that tells host and process, so that what a dead one left can be told apart."""
    return f"{start}-{this_host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


@cache
def this_host() -> str:
    """Eight digits that stand for this machine's name."""
    return hashlib.sha256(socket.gethostname().encode(errors="replace")).hexdigest()[:8]


@contextmanager
def as_os_error() -> Iterator[None]:
    """Turn what safetensors raises where the disk is full into what everything else raises there."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error


def refuse_to_replace(path: Path) -> None:
    """Raise for a device, a pipe or a socket: a rename would put a plain file in its place, for every program there is.

    A link into /proc, such as /dev/stdout, is one also if a plain file is open behind it.

    Raises
    ------
    StoreError : `path` is one of them.
    """
    leads_to_a_process = path.is_symlink() and path.readlink().is_relative_to("/proc")
    if kind := special_kind(path) or ("a link to an open file of a process" if leads_to_a_process else ""):
        raise StoreError(f"{path} is {kind}, and a file would take its place. Nothing was written. Name another file.")


def write_atomically(path: Path, content: bytes, *, waits_for_disk: bool = True) -> None:
    """Replace `path` with `content`, on disk before the rename, so that no reader sees half of it.

    Without `waits_for_disk` a kill leaves no half of it, but a power failure may: for what can be made again.

    Raises
    ------
    StoreError : `path` is a device, a pipe or a socket.
    """
    refuse_to_replace(path)
    temporary = path.with_name(temporary_name(f".{path.name[:40]}"))
    try:
        temporary.write_bytes(content)
        if waits_for_disk:
            _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        if error.filename is not None:
            error.filename, error.filename2 = str(path), None  # the name that people know
        raise
    finally:
        with suppress(OSError):  # there is none, or nothing can be deleted on what is read-only
            temporary.unlink()


@contextmanager
def replacing_file(final: Path) -> Iterator[Path]:
    """Path of a file to write: it takes the place of `final` by one rename, or is deleted on an error.

    It lies in a folder of its own. A library may write beside the path that it is given, under a name that nobody knows:
    what a kill leaves of that goes with the folder.
    """
    refuse_to_replace(final)
    folder = final.with_name(temporary_name(f".{final.name[:40]}"))
    folder.mkdir()
    try:
        yield folder / final.name
        _open_as_the_folder(folder / final.name)
        _sync(folder / final.name)
        (folder / final.name).replace(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing_folder(final: Path, temporary: Path) -> Iterator[Path]:
    """`temporary`, an empty folder to fill: it takes the place of `final` by one rename, or is deleted on an error."""
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in temporary.iterdir():
            _open_as_the_folder(path)
            _sync(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.is_dir():
            shutil.rmtree(final)
        else:
            final.unlink(missing_ok=True)
        temporary.replace(final)
        _sync(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _open_as_the_folder(path: Path) -> None:
    """Let those read and write a file who may do so with its folder: safetensors lets nobody but the owner."""
    path.chmod(path.parent.stat().st_mode & 0o666)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
