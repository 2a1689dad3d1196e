"""Label table: a CSV of `case_id, slide_id, <one 0/1 column a task>` -> checked DataFrame.

The convention of CLAM and of the M4 repository. Ids are text. A blank cell is an unknown label.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from milbench.errors import LabelTableError, unknown_name

PATIENT, SLIDE = "case_id", "slide_id"
EXPECTED = f"Expected {PATIENT}, {SLIDE} and one 0/1 column a task"
BINARY = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "": float("nan")}


def read_labels(path: Path, tasks: Sequence[str] | None = None) -> pd.DataFrame:
    """Table with `slide_id`, `patient_id` (str) and one float column a task in {0, 1, NaN}, in file order.

    Parameters
    ----------
    path : CSV file; UTF-8 with or without byte-order mark, any line ends.
    tasks : columns to use; None = every column but the two ids.

    Raises
    ------
    LabelTableError : missing file or column, two columns of one name, a line with more or fewer cells than
        the header, duplicate or blank id, a label that is not 0, 1 or blank.
    """
    table = _text_table(path, _read_cells(path))
    for column in (PATIENT, SLIDE):
        if column not in table:
            raise LabelTableError(f"{path}: column '{column}' is missing. {EXPECTED}; found {', '.join(table)}.")
    _refuse_bad_ids(path, table)
    names = list(tasks) if tasks else [name for name in table if name not in (PATIENT, SLIDE)]
    if not names:
        raise LabelTableError(
            f"{path}: there is no task column beside {PATIENT} and {SLIDE}. Add one 0/1 column a task."
        )
    for name in names:
        if name not in table:
            raise LabelTableError(
                f"{path}: {unknown_name('task', name, [c for c in table if c not in (PATIENT, SLIDE)])}"
            )
    labels = {name: _binary(path, table[SLIDE], table[name]) for name in names}
    ids = {"slide_id": table[SLIDE].astype(object), "patient_id": table[PATIENT].astype(object)}
    return pd.DataFrame({**ids, **labels}).reset_index(drop=True)


def contradictions(slides: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    """A note per task whose label differs between slides of one patient, with the number of patients."""
    distinct = slides.groupby("patient_id", sort=False)[list(tasks)].nunique()
    counts = (distinct > 1).sum()
    return [
        f"{task}: {count} patients have contradictory labels on their slides" for task, count in counts.items() if count
    ]


def one_class_tasks(slides: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    """A note per task that has one class only in the whole cohort, so that no AUROC exists."""
    return [
        f"{task}: only one class among the known labels, it will get no AUROC"
        for task in tasks
        if slides[task].nunique() < 2
    ]


def _read_cells(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and stripped cells of every row that is not blank.

    Read with `csv`, not pandas: pandas takes the first column for an index, silently, where rows have one cell
    more than the header (a trailing comma is enough), and renames the second of two columns of one name.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except FileNotFoundError:
        raise LabelTableError(f"{path} does not exist. {EXPECTED}, as CSV.") from None
    except (OSError, ValueError, csv.Error) as error:  # a wrong encoding is a ValueError
        raise LabelTableError(
            f"{path} cannot be read as a CSV table ({error}). Save it as comma-separated UTF-8."
        ) from error
    return [(line, cells) for line, cells in rows if any(cells)]


def _text_table(path: Path, rows: list[tuple[int, list[str]]]) -> pd.DataFrame:
    """The cells under their column names; the index is the line that a row stands in."""
    if len(rows) < 2:
        raise LabelTableError(f"{path} has no slide below its header. {EXPECTED}.")
    header = rows[0][1]
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise LabelTableError(
                f"{path}: line {line} has {len(cells)} cells, the header has {len(header)}. "
                "Give every line one cell a column; an unknown label is an empty cell."
            )
    table = pd.DataFrame([cells for _, cells in rows[1:]], index=[line for line, _ in rows[1:]], columns=header)
    used = table.loc[:, [bool(name) or (table.iloc[:, place] != "").any() for place, name in enumerate(header)]]
    _refuse_bad_names(path, list(used))
    return used


def _refuse_bad_names(path: Path, names: list[str]) -> None:
    if "" in names:
        raise LabelTableError(
            f"{path}: column {names.index('') + 1} has values but no name. Name or delete it "
            "(pandas writes one unless told index=False)."
        )
    for name, count in Counter(names).items():
        if count > 1:
            raise LabelTableError(f"{path}: {count} columns are called '{name}'. Rename or delete all but one.")


def _refuse_bad_ids(path: Path, table: pd.DataFrame) -> None:
    for column in (PATIENT, SLIDE):
        blank = table.index[table[column] == ""]
        if len(blank):
            raise LabelTableError(f"{path}: {column} is blank in line {blank[0]}. Fill it in or delete the line.")
    twice = table.loc[table[SLIDE].duplicated(), SLIDE]
    if len(twice):
        raise LabelTableError(
            f"{path}: {_some('slide id', twice.unique())} in more than one line. Keep one line a slide."
        )


def _binary(path: Path, slide_ids: pd.Series, column: pd.Series) -> pd.Series:
    odd = ~column.isin(BINARY)
    if odd.any():
        line = odd.idxmax()
        raise LabelTableError(
            f"{path}: column '{column.name}' holds '{column[line]}' for slide {slide_ids[line]} (line {line}); "
            "expected 0, 1 or blank. Name the task columns with `tasks:` if this is no label."
        )
    return column.map(BINARY).astype(float)


def _some(what: str, names: Sequence[str], most: int = 3) -> str:
    """ "2 slide ids (a, b)", shortened."""
    shown = ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")
    return f"{len(names)} {what}{'s' * (len(names) != 1)} ({shown})"
