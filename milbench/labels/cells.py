"""Table of text from a CSV, TSV or XLSX file, nothing interpreted; the index is the line that a row stands in."""

from __future__ import annotations

import csv
import warnings
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from milbench.errors import LabelTableError, MilbenchError
from milbench.labels.finding import some
from milbench.special_files import refuse_special

SUFFIXES = (".csv", ".tsv", ".xlsx")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}

MOST_CELLS, MOST_UNPACKED = 20_000_000, 500_000_000
"""What is read of a workbook at most: cells of a sheet, bytes of all that is packed in it."""

Rows = list[tuple[int, list[str]]]


class TextTable(NamedTuple):
    """Cells of a file.

    Attributes
    ----------
    cells : DataFrame of stripped text under the file's column names; the index holds line numbers.
    notes : what the reader chose, such as the sheet of a workbook.
    """

    cells: pd.DataFrame
    notes: tuple[str, ...]


def read_table(path: Path, expected: str) -> TextTable:
    """The cells of a CSV, TSV or XLSX file.

    Parameters
    ----------
    expected : what the table should hold, for messages.

    Raises
    ------
    LabelTableError : missing, unreadable or empty file, two columns of one name, a line with more or fewer cells
        than the header.
    """
    refuse_special(path, LabelTableError)
    if not path.is_file():
        raise LabelTableError(f"{path} does not exist. {expected}, as CSV, TSV or XLSX.")
    if path.suffix.lower() not in SUFFIXES:
        raise LabelTableError(f"{path}: the name ends in '{path.suffix}'; expected {', '.join(SUFFIXES)}. Rename it.")
    if path.suffix.lower() != ".xlsx":
        return read_delimited(path, expected)
    rows, notes = _workbook(path)
    return TextTable(_text_table(path, rows, expected, notes), notes)


def read_delimited(path: Path, expected: str) -> TextTable:
    """The cells of a text file whose lines are separated by commas, semicolons or tabs; raises as `read_table`."""
    refuse_special(path, LabelTableError)
    rows, notes = _delimited(path)
    return TextTable(_text_table(path, rows, expected), notes)


def separator_of(header: str, usual: str) -> str:
    """`usual`, unless a table's header has none of it and another separator: German Excel writes semicolons."""
    others = (separator for separator in SEPARATORS if separator in header)
    return usual if usual in header else next(others, usual)


def _delimited(path: Path) -> tuple[Rows, tuple[str, ...]]:
    """Line number and stripped cells of every row that is not blank, and a note on an unusual separator.

    Read with `csv`, not pandas: pandas takes the first column for an index, silently, where rows have one cell
    more than the header (a trailing comma is enough), and renames the second of two columns of one name.
    """
    usual = delimiter = DELIMITERS.get(path.suffix.lower(), ",")
    kind = path.suffix[1:].upper() or "CSV"
    rows: Rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = separator_of(file.readline(), usual)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for row in reader:  # no comprehension: if it fails, the last good row tells where
                rows.append((reader.line_num, [cell.strip() for cell in row]))
    except csv.Error as error:
        line = rows[-1][0] + 1 if rows else 1
        raise LabelTableError(
            f"{path} cannot be read as a {kind} table: the row that begins in line {line} does not end as a row does ({error}). "
            "Most often a quote sign is open or stands alone in it."
        ) from error
    except OSError as error:
        raise LabelTableError(
            f"{path} cannot be read: {error.strerror or error}. Check its name and rights."
        ) from error
    except ValueError as error:  # a wrong encoding is one
        raise LabelTableError(
            f"{path} cannot be read as a {kind} table ({error}). Save it as {SEPARATORS[delimiter]}-separated UTF-8."
        ) from error
    _refuse_nul(path, rows)
    note = f"{path.name} is separated by {SEPARATORS[delimiter]}s, where {SEPARATORS[usual]}s are usual"
    return [(line, cells) for line, cells in rows if any(cells)], () if delimiter == usual else (note,)


def _refuse_nul(path: Path, rows: Rows) -> None:
    """LabelTableError for a character that no text has and that no folder, JSON file or message could repeat."""
    for line, cells in rows:
        if any("\0" in cell for cell in cells):
            raise LabelTableError(
                f"{path}: line {line} holds a NUL character, so the file is damaged. Save the table again."
            )


def _workbook(path: Path) -> tuple[Rows, tuple[str, ...]]:
    """Rows of the first sheet, and a note if there are others.

    Read with openpyxl, not pandas.read_excel: pandas drops blank rows, so that a message could not name the line.
    """
    from openpyxl import load_workbook

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of styles and validations that cells do not depend on
            _refuse_expansion(path)
            sheets = load_workbook(path, data_only=True).worksheets
            _refuse_far_cells(path, sheets[0])
            _refuse_formulas_without_value(path, sheets[0])
        rows = [(n, [_text(cell) for cell in row]) for n, row in enumerate(sheets[0].iter_rows(values_only=True), 1)]
    except MilbenchError:
        raise
    except Exception as error:  # whatever broken XML makes openpyxl raise: SyntaxError, TypeError, AttributeError, ...
        raise LabelTableError(
            f"{path} cannot be read as an Excel workbook ({error}). Save it as .xlsx again, or as CSV."
        ) from error
    notes = [f"{path.name}: only the first of {len(sheets)} sheets was read ('{sheets[0].title}')"][: len(sheets) - 1]
    hidden = sum(bool(sheets[0].row_dimensions[line].hidden) for line in list(sheets[0].row_dimensions))
    notes += [f"{path.name}: {hidden} rows that a filter hides were read too"] if hidden else []
    return [(line, cells) for line, cells in rows if any(cells)], tuple(notes)


def _refuse_expansion(path: Path) -> None:
    """LabelTableError for a small file that unpacks into memory without end."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MOST_UNPACKED:
        raise LabelTableError(
            f"{path} unpacks to {unpacked:,} bytes, more than a table of labels has. Save its first sheet as CSV."
        )


def _refuse_far_cells(path: Path, sheet: Any) -> None:
    """LabelTableError for a sheet that one stray cell far away makes as large as Excel allows."""
    if sheet.max_row * sheet.max_column > MOST_CELLS:
        raise LabelTableError(
            f"{path}: the sheet '{sheet.title}' has {sheet.max_row:,} rows and {sheet.max_column:,} columns, most of them "
            "empty. Delete what stands far right or below, or save the table as CSV."
        )


def _refuse_formulas_without_value(path: Path, sheet: Any) -> None:
    """LabelTableError for a formula that no spreadsheet has computed yet: its cell would read as blank, an unknown label."""
    with zipfile.ZipFile(path) as archive:
        if not any(b"<f" in archive.read(name) for name in archive.namelist() if name.startswith("xl/worksheets/")):
            return
    from openpyxl import load_workbook

    written = load_workbook(path).worksheets[0]
    for row in written.iter_rows():
        for cell in row:
            if cell.data_type == "f" and sheet[cell.coordinate].value is None:
                raise LabelTableError(
                    f"{path}: cell {cell.coordinate} of the sheet '{sheet.title}' holds a formula whose value was never stored. "
                    "Open the workbook in a spreadsheet and save it, or save the table as CSV."
                )


def _text(cell: Any) -> str:
    """What Excel shows: text as it is, 7.0 as 7, so that a numeric id finds its file."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _text_table(path: Path, rows: Rows, expected: str, notes: Sequence[str] = ()) -> pd.DataFrame:
    if len(rows) < 2:
        of_what = f" ({'; '.join(notes)})" if notes else ""
        raise LabelTableError(f"{path} has no line below its header{of_what}. {expected}.")
    first, header = rows[0]
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise LabelTableError(
                f"{path}: line {line} has {len(cells)} cells, the header has {len(header)} (line {first}: {some(header, 5)}). "
                "Give every line one cell per column; an unknown label is an empty cell."
            )
    table = pd.DataFrame([cells for _, cells in rows[1:]], index=[line for line, _ in rows[1:]], columns=header)
    used = table.loc[:, [bool(name) or (table.iloc[:, place] != "").any() for place, name in enumerate(header)]]
    _refuse_bad_names(path, list(used))
    return used.astype(object)


def _refuse_bad_names(path: Path, names: list[str]) -> None:
    if "" in names:
        raise LabelTableError(
            f"{path}: column {names.index('') + 1} has values but no name. Name or delete it "
            "(pandas writes one unless told index=False)."
        )
    for name, count in Counter(names).items():
        if count > 1:
            raise LabelTableError(f"{path}: {count} columns are called '{name}'. Rename or delete all but one.")
