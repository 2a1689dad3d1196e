"""Columns: what a trial answered, as arrays with texts coded, read a few times as fast as a data frame.

::

    slide_id  patient_id  role  task    target  event  answer       prediction
    Coded     Coded       Coded Coded   [n]     [n]    Coded        [n]
    codes [n] of values, each distinct text once
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from milbench.store.arrow_arrays import array_in, floats_in

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Flags = NDArray[np.bool_]

TEXTS = ("slide_id", "patient_id", "role", "task", "answer")
ONLY_ANSWER = "probability"
"""Name of the answer, and of its column, in files of trials whose tasks are all binary."""


class Coded(NamedTuple):
    """A column of text.

    Attributes
    ----------
    codes : [n] place of each row's text among `values`.
    values : distinct texts; rows need not use all of them.
    """

    codes: Ints
    values: tuple[str, ...]

    def are(self, value: str) -> Flags:
        """[n] rows that hold the text."""
        import numpy as np

        return self.codes == self.values.index(value) if value in self.values else np.zeros(len(self.codes), dtype=bool)

    @classmethod
    def of(cls, texts: Sequence[str]) -> Coded:
        """The column of plain texts."""
        import numpy as np

        place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return cls(np.array([place[text] for text in texts], dtype=np.int64), tuple(place))

    def among(self, names: Sequence[str]) -> Ints:
        """[n] place of each row's text among `names`, -1 where it is not there."""
        return _places(self.values, tuple(names))[self.codes]

    def where(self, rows: Flags) -> Coded:
        """The rows of a mask [n]."""
        return Coded(self.codes[rows], self.values)

    def used(self) -> list[str]:
        """Distinct texts of the rows, in the order of their first row."""
        import numpy as np

        codes, first = np.unique(self.codes, return_index=True)
        return [self.values[code] for code in codes[np.argsort(first)]]

    def texts(self) -> NDArray[np.object_]:
        """[n] the text of every row."""
        import numpy as np

        return np.array([*self.values, None], dtype=object)[self.codes]


@lru_cache(maxsize=64)
def _places(values: tuple[str, ...], names: tuple[str, ...]) -> Ints:
    """[v + 1] place of each value among `names`, -1 where it is not there, and for what has no value.

    Trials of a cohort hold the same texts in the same order, so most of them find these again.
    """
    import numpy as np

    place = {name: number for number, name in enumerate(names)}
    found = np.array([*(place.get(value, -1) for value in values), -1], dtype=np.int64)
    found.setflags(write=False)
    return found


class Columns(NamedTuple):
    """Answers of one trial, one row per slide, task and answer, as `StoredTrial.answers` has them."""

    slide_id: Coded
    patient_id: Coded
    role: Coded
    task: Coded
    answer: Coded
    target: Floats
    event: Floats
    prediction: Floats

    def where(self, rows: Flags) -> Columns:
        """The rows of a mask [n]."""
        return Columns(
            self.slide_id.where(rows), self.patient_id.where(rows), self.role.where(rows), self.task.where(rows),
            self.answer.where(rows), self.target[rows], self.event[rows], self.prediction[rows],
        )  # fmt: skip


def n_bytes_of(columns: Columns) -> int:
    """Bytes of the arrays."""
    return sum(array.nbytes for array in _arrays(columns))


def make_read_only(columns: Columns) -> None:
    """Refuse whoever writes into the arrays, as is due to columns that several read."""
    for array in _arrays(columns):
        array.setflags(write=False)


def _arrays(columns: Columns) -> list[NDArray[Any]]:
    return [column.codes if isinstance(column, Coded) else column for column in columns]


def columns_in(path: Path) -> Columns:
    """The columns of a file of predictions, of a trial of any kind."""
    return columns_from(read_parquet_table(path, TEXTS[:-1]))  # a coded column must be there


def columns_from(table: pa.Table) -> Columns:
    """The same from the file's table, its columns of text coded, all but `answer` at least."""
    import numpy as np

    n = table.num_rows
    if "answer" in table.column_names:
        answer, event, prediction = (
            _coded(table["answer"].dictionary_encode()),
            floats_in(table["event"]),
            floats_in(table["prediction"]),
        )
    else:
        answer, event = Coded(np.zeros(n, dtype=np.int64), (ONLY_ANSWER,)), np.full(n, np.nan)
        prediction = floats_in(table[ONLY_ANSWER])
    slide_id, patient_id, role, task = (_coded(table[name]) for name in TEXTS[:-1])
    return Columns(slide_id, patient_id, role, task, answer, floats_in(table["target"]), event, prediction)


def columns_of(frame: pd.DataFrame) -> Columns:
    """The columns of a data frame as `StoredTrial.answers` gives it."""
    import numpy as np
    import pandas as pd

    coded = (pd.factorize(frame[name]) for name in TEXTS)
    slide_id, patient_id, role, task, answer = (
        Coded(codes.astype(np.int64), tuple(map(str, values))) for codes, values in coded
    )
    target, event, prediction = (frame[name].to_numpy(dtype=float) for name in ("target", "event", "prediction"))
    return Columns(slide_id, patient_id, role, task, answer, target, event, prediction)


def read_parquet_table(path: Path, coded: tuple[str, ...] = ()) -> pa.Table:
    """The table of a small file.

    By `ParquetFile` and on this thread: `pyarrow.parquet.read_table` and `pandas.read_parquet` prepare for data sets of many
    files, which takes three to six times as long for one of a trial.
    """
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path, pre_buffer=False, read_dictionary=list(coded)) as file:
        return file.read(use_threads=False)


def read_parquet_frame(path: Path) -> pd.DataFrame:
    """The same as a data frame, equal to what `pandas.read_parquet` makes of it."""
    frame: pd.DataFrame = read_parquet_table(path).to_pandas(use_threads=False)
    return frame


def _coded(column: pa.ChunkedArray) -> Coded:
    import numpy as np

    codes = column.unify_dictionaries().combine_chunks()
    if codes.null_count:
        raise ValueError("an empty cell in a column of text")
    return Coded(array_in(codes.indices).astype(np.int64), tuple(codes.dictionary.to_pylist()))
