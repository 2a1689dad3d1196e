"""Disk: a file for HDF5 that remembers what could not be written."""

from __future__ import annotations

from io import FileIO
from typing import Any


class Disk(FileIO):
    """A file that keeps the first error of writing for later: HDF5 ends the process if a write fails, as on a full disk.

    Attributes
    ----------
    error : the first one; None as long as everything was written.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Number of bytes of `data`, whether they could be written or not."""
        try:
            left = memoryview(data).cast("B")
            while left:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = self.error or error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """The size asked for, whether the file could take it or not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def raise_error(self) -> None:
        """Raise what was kept, if there is anything."""
        if self.error is not None:
            raise self.error
