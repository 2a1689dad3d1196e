"""Writing without the wait for the disk: what a test has written is read again by the same machine, which does not lose power.

A commit of SQLite, and a file of milbench's that takes its place, wait milliseconds until the disk has stored them; the
tests make tens of thousands of them.
"""

from __future__ import annotations

import os
import sqlite3.dbapi2
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

FSYNC = os.fsync
"""The system's own, for tests that need what it does."""


def disks_do_not_wait(patched: pytest.MonkeyPatch) -> None:
    """`os.fsync` returns at once, and databases that SQLAlchemy opens wait for no disk."""
    patched.setattr(os, "fsync", lambda _: None)
    patched.setattr(sqlite3.dbapi2, "connect", unsynced(sqlite3.dbapi2.connect))


def unsynced(connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
    def call(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        with suppress(sqlite3.DatabaseError):  # a file that is no database says so when it is asked, as always
            connection.execute("PRAGMA synchronous = OFF")
        return connection

    return call
