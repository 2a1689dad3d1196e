"""Slots: memory that reading processes fill and the encoder reads, without a copy through a pipe.

There is a set number of them, so that memory does not grow with slides or patches: a reader waits for a free one.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from math import prod
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from milbench.errors import MilbenchError

Shape = tuple[int, int, int, int]


class Slots:
    """Arrays uint8 [B, P, P, 3] that processes share.

    They lie in memory that belongs to no file system, because containers often have no more than 64 MB in /dev/shm. Where a
    system has no such memory, they lie in a temporary file.

    Attributes
    ----------
    path : where another process of this user finds them; valid as long as this process lives and `close` was not called.
    arrays : uint8 [count, B, P, P, 3].
    free : numbers of slots that nobody fills or reads.

    Raises
    ------
    MilbenchError : there is not so much memory.
    """

    def __init__(self, count: int, shape: Shape) -> None:
        self.shape, self.count = shape, count
        self._descriptor, self.path = _nameless_file()
        try:
            os.ftruncate(self._descriptor, count * prod(shape))
            self.arrays = arrays_at(self._descriptor, count, shape)
        except OSError as error:
            self._free()
            raise MilbenchError(
                f"no memory for {count} batches of {shape[0]} patches ({error.strerror or error}). Use fewer --workers or a "
                "smaller --batch."
            ) from error
        self.free = list(range(count))

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        return np.asarray(self.arrays[number])

    def __enter__(self) -> Slots:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free()

    def _free(self) -> None:
        os.close(self._descriptor)
        if not self.path.startswith("/proc/"):
            Path(self.path).unlink(missing_ok=True)


def slots_of(path: str, count: int, shape: Shape) -> NDArray[np.uint8]:
    """The slots of another process, uint8 [count, B, P, P, 3]."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        return arrays_at(descriptor, count, shape)
    finally:
        os.close(descriptor)


def arrays_at(descriptor: int, count: int, shape: Shape) -> NDArray[np.uint8]:
    """All slots in an open file."""
    memory = mmap.mmap(descriptor, count * prod(shape))
    return np.frombuffer(memory, np.uint8).reshape(count, *shape)


def _nameless_file() -> tuple[int, str]:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("milbench-tiles")
        return descriptor, f"/proc/{os.getpid()}/fd/{descriptor}"
    return tempfile.mkstemp(prefix="milbench-tiles-")
