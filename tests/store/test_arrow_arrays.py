"""Numbers of Arrow's columns: those of `to_numpy`, and no pandas for them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from milbench.store.arrow_arrays import array_in, floats_in
from milbench.store.columns import columns_from

COLUMNS = {
    "floats": pa.array([0.1, -2.0, np.inf, np.nan]),
    "float32": pa.array([0.1, 3.0], pa.float32()),
    "half": pa.array(np.array([0.1, 3.0], np.float16)),
    "whole numbers": pa.array([3, -1, 2**40]),
    "none": pa.array([], pa.float64()),
    "an empty cell": pa.array([0.5, None, 1.5]),
    "an empty cell of whole numbers": pa.array([4, None, 6]),
    "empty cells alone": pa.array([None, None], pa.float64()),
    "part": pa.array([9.0, None, 1.0, None, 2.0])[1:4],
    "part of whole numbers": pa.array([9, 8, 7], pa.int32())[1:],
    "chunks": pa.chunked_array([[1.0], [None, 3.0], []]),
    "no chunk": pa.chunked_array([], pa.float64()),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_numbers_are_those_of_arrows_own_way_to_arrays(name: str) -> None:
    column = COLUMNS[name]
    usual = column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    found = array_in(column)
    assert found.dtype == usual.dtype
    np.testing.assert_array_equal(found, usual)
    floats = floats_in(column)
    assert floats.dtype == np.float64
    assert floats.flags.writeable
    np.testing.assert_array_equal(floats, usual.astype(float))


def test_they_are_the_same_after_a_file(tmp_path: Path) -> None:
    """A column that is empty in all rows has no memory of its own there."""
    table = pa.table({"all": pa.array([None] * 3, pa.float64()), "some": pa.array([1.0, None, 2.0])})
    pq.write_table(table, tmp_path / "a.parquet")
    for name, column in zip(table.column_names, pq.read_table(tmp_path / "a.parquet").columns, strict=True):
        np.testing.assert_array_equal(floats_in(column), table[name].to_numpy())


READS = """
import sys
from pathlib import Path
from milbench.store.columns import columns_in
from milbench.store.kept import history_in
from milbench.store.payload import refuse_other_history, refuse_other_predictions
folder = Path(sys.argv[1])
refuse_other_predictions(folder / "predictions.parquet", ["EGFR"], {"val": 1, "test": 2})
print(columns_in(folder / "predictions.parquet").target.tolist())
print(sorted(history_in(folder / "history.parquet")), "pandas" in sys.modules)
"""


def test_trials_are_read_and_checked_without_pandas(tmp_path: Path) -> None:
    rows = {
        "slide_id": ["a", "b", "c"], "patient_id": ["a", "b", "c"], "role": ["val", "test", "test"], "task": ["EGFR"] * 3,
        "target": [1.0, None, 0.0], "probability": [0.5, 0.25, 0.75],
    }  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "predictions.parquet")
    pq.write_table(pa.table({"epoch": [0], "train_loss": [0.5]}), tmp_path / "history.parquet")
    done = subprocess.run([sys.executable, "-c", READS, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[1.0, nan, 0.0]", "['epoch', 'train_loss'] False"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None]).dictionary_encode(), pa.array(["a", "b"]), pa.array([True, None]), pa.nulls(2),
        pa.chunked_array([pa.array(["a", None]).dictionary_encode()]),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_number_goes_arrows_own_way(column: pa.Array | pa.ChunkedArray) -> None:
    chunked = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
    found, usual = array_in(column), chunked.to_numpy()
    assert found.dtype == usual.dtype
    assert found.tolist() == usual.tolist() or np.isnan(found.astype(float)).all()


def test_an_empty_cell_of_coded_text_is_refused() -> None:
    texts = pa.array(["a", None]).dictionary_encode()
    columns = dict.fromkeys(("slide_id", "patient_id", "role", "task"), texts)
    with pytest.raises(ValueError, match="empty cell"):
        columns_from(pa.table({**columns, "target": [0.0, 1.0], "probability": [0.5, 0.5]}))
