"""CSV for people runs nothing in a spreadsheet, and every name can be told from its cell."""

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from names_for_tests import NAMES
from places import ROOT

from milbench.store.csv_files import exact_csv, guarded, spreadsheet_csv, unguarded
from milbench.visible import is_hidden

FORMULA = "=+-@\t\r\n＝＋－＠"


def is_number(text: str) -> bool:
    try:
        return bool(float(text)) or True
    except ValueError:
        return False


def cells_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


HEADS = NAMES.map(lambda name: name.encode(errors="ignore").decode())
"""pandas takes no half of a character in the name of a column."""


@settings(deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=4), HEADS)
def test_no_cell_is_a_formula_or_hides_a_character_and_every_name_can_be_told(names: list[str], column: str) -> None:
    head, *rows = cells_of(spreadsheet_csv(pd.DataFrame({column: pd.Series(names, dtype=object), "score": 0.5})))
    for cell in (head[0], *(row[0] for row in rows)):
        assert not cell.lstrip().startswith(tuple(FORMULA)) or is_number(cell)
        assert not any(map(is_hidden, cell))
    assert unguarded(head[0]) == column
    assert [unguarded(row[0]) for row in rows] == names


@settings(deadline=None)
@given(NAMES, NAMES)
def test_two_names_never_share_a_cell(one: str, other: str) -> None:
    assert (guarded(one) == guarded(other)) is (one == other)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-1+cmd", "'-1+cmd"),
        (" =1+1", "' =1+1"),
        ("'quoted'", "''quoted'"),
        ("=a\\b", "'=a\\\\b"),
        ("a\x1bb\\", "'a\\x1bb\\\\"),
        ("+0.012", "+0.012"),
        ("-1.5e-3", "-1.5e-3"),
        ("TCGA-2E-A9G8", "TCGA-2E-A9G8"),
        ("ER+", "ER+"),
        ("C:\\slides", "C:\\slides"),
        ("", ""),
    ],
)
def test_text_is_guarded_where_it_must_be_and_numbers_never(name: str, cell: str) -> None:
    assert guarded(name) == cell
    assert unguarded(cell) == name


def test_numbers_and_gaps_are_written_as_pandas_writes_them() -> None:
    table = pd.DataFrame({
        "id": ["a", None, "c"], "kind": pd.Categorical(["x", "y", "x"]), "gain": [-0.1 - 0.2, np.nan, -np.inf],
        "n": pd.array([-1, None, 2], dtype="Int64"), "ok": [True, False, True],
    })  # fmt: skip
    for float_format in (None, "%.3g"):
        expected = table.to_csv(index=False, float_format=float_format, lineterminator="\n")
        assert spreadsheet_csv(table, float_format) == expected
    assert list(table["id"].dropna()) == ["a", "c"], "the table itself stays as it was"


def test_a_table_that_programs_read_keeps_every_name() -> None:
    assert exact_csv(pd.DataFrame({"=task": ["=1+1", "'x"]})) == "=task\n=1+1\n'x\n"


NOT_FOR_PEOPLE = {
    "cohorts/fingerprint.py",  # the text is hashed, and no one opens it
    "datasets/digits.py",
    "acquire/label_table.py",  # label tables and splits are read back, by milbench or by CLAM
    "splits/clam.py",
}
WRITER = re.compile(r"\.to_csv\([^)]*index=|\.to_excel\(|csv\.(?:Dict)?[wW]riter\(")


def test_every_table_for_people_is_written_in_this_one_place() -> None:
    package = ROOT / "milbench"
    writers = {
        path.relative_to(package).as_posix() for path in package.rglob("*.py") if WRITER.search(path.read_text())
    }
    assert writers == {"store/csv_files.py"} | NOT_FOR_PEOPLE
