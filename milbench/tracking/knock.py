"""Knocking: whether an MLflow server or database answers at all, before MLflow waits for it.

MLflow tries fifteen times to open a database that it cannot open, each time after twice as long a pause: hours. A server
that takes a connection and says nothing, or never ends, would hold it up as well.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from urllib3.exceptions import HTTPError

from milbench.machine.deadline import Deadline, within

KNOCK_SECONDS = 5.0
MOST_BYTES = 100_000
"""Of an answer to a knock; MLflow's has two."""
CHUNK_BYTES = 1000


def database_file(uri: str) -> Path | None:
    """The file of a SQLite database; None if `uri` is another kind of store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def knock(uri: str) -> None:
    """Return if the store at `uri` answers, or cannot be told; what is wrong with an answer is for MLflow to say.

    Raises
    ------
    OSError : with a reason. Its file is no database or stays locked, or its server does not answer in `KNOCK_SECONDS`.
    """
    path = database_file(uri)
    if uri.startswith("sqlite:") and (path is None or not path.name):
        raise OSError(f"it names no file, as sqlite:///{Path('mlflow.db').absolute()} does")
    if path is not None:
        _knock_at_file(path)
    elif uri.startswith(("http://", "https://")):
        _knock_at_server(f"{uri.rstrip('/')}/health")


def _knock_at_file(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_file():
        raise OSError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}, move it away")
    try:
        with closing(sqlite3.connect(path, timeout=KNOCK_SECONDS, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:  # of another kind, such as a read-only file: MLflow may do with it
        if "locked" in str(error):
            raise TimeoutError(f"another process has held the lock on it for {KNOCK_SECONDS:g} s") from error
    except sqlite3.DatabaseError as error:
        raise OSError(f"{error}, move the file away") from error


def _knock_at_server(url: str) -> None:
    try:
        length = within(KNOCK_SECONDS, lambda: _read_little(url))
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {KNOCK_SECONDS:g} s") from error
    if length >= MOST_BYTES:
        raise OSError(f"the answer to {url} has no end")


def _read_little(url: str) -> int:
    """Bytes of the answer that were read, whatever it says; 0 if there was none."""
    import requests

    deadline, length = Deadline(KNOCK_SECONDS), 0
    try:
        with requests.get(url, stream=True, timeout=KNOCK_SECONDS, allow_redirects=False) as response:
            while length < MOST_BYTES and not deadline.has_passed() and (chunk := response.raw.read1(CHUNK_BYTES)):
                length += len(chunk)
    except requests.Timeout as error:
        raise TimeoutError from error
    except (requests.RequestException, HTTPError):  # refused, or a certificate: MLflow tries again, with its settings
        return 0
    return length
