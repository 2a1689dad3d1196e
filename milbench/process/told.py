"""Told: bytes that a copy of this process leaves for it, in memory that both see.

No file has a name: if all are killed, nothing is left. Pipes would hold 64 KiB, and then wait for a reader.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress


class Told:
    """Room for what one copy tells; the process at home opens it before it makes copies (`milbench.process.forked`)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, parts: Iterable[bytes]) -> None:
        """Put `parts` in place of what is there; raises `OSError` where memory runs out."""
        with os.fdopen(os.dup(self._descriptor), "wb") as file:
            file.truncate(0)
            file.seek(0)
            for part in parts:
                file.write(part)

    def read(self, start: int, length: int | None = None) -> bytes:
        """Bytes from `start` on, all of them or `length`."""
        if length is None:
            length = os.fstat(self._descriptor).st_size - start
        return os.pread(self._descriptor, length, start)


@contextmanager
def rooms_to_tell(n: int) -> Iterator[Sequence[Told]]:
    """`n` rooms, or none at all: some systems have no such memory, or allow no more open files."""
    opened: list[int] = []
    try:
        with suppress(AttributeError, OSError):
            for _ in range(n):
                opened.append(os.memfd_create("milbench"))
        if len(opened) < n:
            _close(opened)  # so that as many files as ever can be opened
        yield [Told(descriptor) for descriptor in opened]
    finally:
        _close(opened)


def _close(opened: list[int]) -> None:
    while opened:
        os.close(opened.pop())
