"""Ahead: the trials of a run, read and verified by copies of this process while it does something else.

::

    this process   plans batches of trials    imports what it needs    takes in what is read, reads the rest
    a copy of it         batch 0    batch 1    batch 2 ...             ends
                            └─ record, columns and history of each trial, in memory that both see

A batch that no copy has read, or none can make, is read here: what is found is the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from milbench.process.cores import usable_cores
from milbench.process.forked import Task, begun
from milbench.process.told import Told, rooms_to_tell
from milbench.store.columns import Coded, Columns
from milbench.store.kept import KEPT_BYTES, History, Kept
from milbench.store.trial import HISTORY, PREDICTIONS, StoredTrial

if TYPE_CHECKING:
    import numpy as np

Read = Callable[[str, Kept], StoredTrial | None]
"""The verified trial of an id, with its columns in what is given; None where there is none."""

FEWEST = 24
"""Trials below which a copy takes longer to make than it saves."""

BATCHES = 32
"""Of a run: few enough to take in, and enough that no process waits long for another."""

LENGTH_BYTES = 8


class TrialRead(NamedTuple):
    """A trial that was read.

    Attributes
    ----------
    trial : the trial; None where there is none.
    columns, history : what its files hold; None for what did not fit, which is read again when it is asked for.
    """

    trial: StoredTrial | None
    columns: Columns | None = None
    history: History | None = None


class _Batch:
    """Trials that are read one after the other, here or in a copy of this process."""

    def __init__(self, ids: Sequence[str], read: Read, told: Told | None) -> None:
        self._ids, self._read, self._told, self._home = ids, read, told, os.getpid()
        self._found: list[TrialRead] | None = None

    def do(self) -> None:
        """Read the trials; in a copy, tell the process at home what they hold."""
        kept = Kept(KEPT_BYTES // BATCHES)  # so that all batches together hold no more than what is kept of them
        found = [self._one(trial_id, kept) for trial_id in self._ids]
        if self._told is None or os.getpid() == self._home:
            self._found = found
        else:
            self._told.write(_written(found))

    def _one(self, trial_id: str, kept: Kept) -> TrialRead:
        trial = self._read(trial_id, kept)
        if trial is None:
            return TrialRead(None)
        return TrialRead(trial, *kept.held(trial.digests[PREDICTIONS], trial.digests[HISTORY]))

    def take(self, rebuilt: Callable[[str, dict[str, Any]], StoredTrial]) -> list[TrialRead]:
        """What was read, by whichever process."""
        if self._found is not None or self._told is None:
            return self._found or []
        length = int.from_bytes(self._told.read(0, LENGTH_BYTES), "little")
        head, arrays = self._told.read(LENGTH_BYTES, length), self._told.read(LENGTH_BYTES + length)
        return _taken(json.loads(head), arrays, self._ids, rebuilt)


@contextmanager
def reading(
    ids: Sequence[str], read: Read, rebuilt: Callable[[str, dict[str, Any]], StoredTrial]
) -> Iterator[list[TrialRead]]:
    """Inside, copies of this process read the trials; when the block is left, the list holds them in the order of `ids`.

    Parameters
    ----------
    read : reads and verifies one trial.
    rebuilt : the trial of an id and its record.
    """
    for name in ("pyarrow.compute", "pyarrow.parquet", "safetensors"):
        import_module(name)  # here, so that no copy imports them again
    size = max(1, -(-len(ids) // BATCHES))
    parts = [ids[start : start + size] for start in range(0, len(ids), size)]
    found: list[TrialRead] = []
    with rooms_to_tell(len(parts) if len(ids) >= FEWEST else 0) as rooms:
        batches = [_Batch(part, read, room) for part, room in zip(parts, rooms or repeat(None), strict=False)]
        with begun([Task("trials", batch.do) for batch in batches], usable_cores() if rooms else 1):
            yield found
        for batch in batches:
            found += batch.take(rebuilt)


def _written(found: Sequence[TrialRead]) -> Iterator[bytes]:
    """The trials as bytes: a head that tells records, texts and numbers of rows, and the arrays in its order."""
    head, arrays = [], []
    for trial, columns, history in found:
        texts = [list(column.values) for column in columns or () if isinstance(column, Coded)]
        told = [(name, str(values.dtype), len(values)) for name, values in (history or {}).items()]
        head.append((trial and dict(trial.info), columns and len(columns.target), texts, history is not None, told))
        arrays += [column.codes if isinstance(column, Coded) else column for column in columns or ()]
        arrays += (history or {}).values()
    content = json.dumps(head).encode()
    yield len(content).to_bytes(LENGTH_BYTES, "little")
    yield content
    yield from (array.tobytes() for array in arrays)


def _taken(
    head: Sequence[Any], arrays: bytes, ids: Sequence[str], rebuilt: Callable[[str, dict[str, Any]], StoredTrial]
) -> list[TrialRead]:
    """The trials that `_written` gave; arrays are views of the bytes, which nobody may write into."""
    import numpy as np

    place = 0

    def array(kind: str, n: int) -> np.ndarray[Any, Any]:
        nonlocal place
        values = np.frombuffer(arrays, kind, n, place)
        place += values.nbytes
        return values

    found = []
    for trial_id, (record, n, texts, has_history, told) in zip(ids, head, strict=True):
        columns = history = None
        if n is not None:
            slide_id, patient_id, role, task, answer = (Coded(array("i8", n), tuple(values)) for values in texts)
            target, event, prediction = (array("f8", n) for _ in range(3))
            columns = Columns(slide_id, patient_id, role, task, answer, target, event, prediction)
        if has_history:
            history = {name: array(kind, n_rows) for name, kind, n_rows in told}
        found.append(TrialRead(None if record is None else rebuilt(trial_id, record), columns, history))
    return found
