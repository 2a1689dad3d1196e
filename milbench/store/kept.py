"""Kept: what files of trials hold, in memory by their checksums, so that a report reads each of them once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.store.arrow_arrays import array_in
from milbench.store.columns import Columns, columns_in, make_read_only, n_bytes_of, read_parquet_table

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KEPT_BYTES = 256 * 2**20
"""Answers and histories of trials that a snapshot keeps in memory, since a report looks at them several times."""

History = Mapping[str, "np.ndarray[Any, Any]"]
"""Columns of a history by name, each [epochs]."""


class Kept:
    """What files of trials hold, by their checksums, up to a number of bytes; files of later trials are read each time."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._columns: dict[str, Columns] = {}
        self._histories: dict[str, History] = {}
        self._room = most_bytes

    def columns(self, path: Path, sha256: str) -> Columns:
        """Columns of the file, which has the checksum; nobody may write into them."""
        return self._columns[sha256] if sha256 in self._columns else self.add(sha256, columns_in(path))

    def history(self, path: Path, sha256: str) -> History:
        """Columns of a file of one row per epoch, which has the checksum; nobody may write into them."""
        return self._histories[sha256] if sha256 in self._histories else self.add_history(sha256, history_in(path))

    def holds(self, sha256: str) -> bool:
        """Whether what the file with the checksum holds is in memory."""
        return sha256 in self._columns or sha256 in self._histories

    def held(self, predictions: str, history: str) -> tuple[Columns | None, History | None]:
        """Columns and history of the files with these checksums; None for what is not in memory."""
        return self._columns.get(predictions), self._histories.get(history)

    def add(self, sha256: str, found: Columns) -> Columns:
        """The same columns, kept if there is room."""
        n_bytes = n_bytes_of(found)
        if n_bytes <= self._room:
            self._room -= n_bytes
            make_read_only(found)
            self._columns[sha256] = found
        return found

    def add_history(self, sha256: str, found: History) -> History:
        """The same history, kept if there is room."""
        n_bytes = sum(values.nbytes for values in found.values())
        if n_bytes <= self._room:
            self._room -= n_bytes
            for values in found.values():
                values.setflags(write=False)
            self._histories[sha256] = found
        return found


def history_in(path: Path) -> History:
    """The columns of a file of one row per epoch."""
    return history_from(read_parquet_table(path))


def history_from(table: pa.Table) -> History:
    """The columns of a table of one row per epoch."""
    return {name: array_in(table[name]) for name in table.column_names}
