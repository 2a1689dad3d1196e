"""Label table: a CSV of `case_id, slide_id, <one 0/1 column a task>` -> checked DataFrame.

The convention of CLAM and of the M4 repository. Ids are text. A blank cell is an unknown label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from milbench.errors import LabelTableError, unknown_name

PATIENT, SLIDE = "case_id", "slide_id"
BINARY = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "": float("nan")}


def read_labels(path: Path, tasks: Sequence[str] | None = None) -> pd.DataFrame:
    """Table with `slide_id`, `patient_id` (str) and one float column a task in {0, 1, NaN}, in file order.

    Parameters
    ----------
    path : CSV file; UTF-8 with or without byte-order mark, any line ends.
    tasks : columns to use; None = every column but the two ids.

    Raises
    ------
    LabelTableError : missing file or column, duplicate or blank id, a label that is not 0, 1 or blank.
    """
    table = _read_text(path)
    for column in (PATIENT, SLIDE):
        if column not in table:
            raise LabelTableError(f"{path}: column '{column}' is missing. Expected {PATIENT}, {SLIDE} and one 0/1 column a task; found {', '.join(table)}.")
    _refuse_bad_ids(path, table)
    names = list(tasks) if tasks else [name for name in table if name not in (PATIENT, SLIDE)]
    if not names:
        raise LabelTableError(f"{path}: there is no task column beside {PATIENT} and {SLIDE}. Add one 0/1 column a task.")
    for name in names:
        if name not in table:
            raise LabelTableError(f"{path}: {unknown_name('task', name, [c for c in table if c not in (PATIENT, SLIDE)])}")
    labels = {name: _binary(path, table[SLIDE], table[name]) for name in names}
    return pd.DataFrame({"slide_id": table[SLIDE].astype(object), "patient_id": table[PATIENT].astype(object), **labels})


def contradictions(slides: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    """A note per task whose label differs between slides of one patient, with the number of patients."""
    distinct = slides.groupby("patient_id", sort=False)[list(tasks)].nunique()
    counts = (distinct > 1).sum()
    return [f"{task}: {count} patients have contradictory labels on their slides" for task, count in counts.items() if count]


def one_class_tasks(slides: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    """A note per task that has one class only in the whole cohort, so that no AUROC exists."""
    return [f"{task}: only one class among the known labels, it will get no AUROC" for task in tasks if slides[task].nunique() < 2]


def _read_text(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except FileNotFoundError:
        raise LabelTableError(f"{path} does not exist. Expected a CSV with {PATIENT}, {SLIDE} and one 0/1 column a task.") from None
    except (OSError, ValueError) as error:  # pandas' parser errors and bad encodings are ValueErrors
        raise LabelTableError(f"{path} cannot be read as a CSV table ({error}). Save it as comma-separated UTF-8.") from error


def _refuse_bad_ids(path: Path, table: pd.DataFrame) -> None:
    for column in (PATIENT, SLIDE):
        blank = table.index[table[column].str.strip() == ""]
        if len(blank):
            raise LabelTableError(f"{path}: {column} is blank in line {blank[0] + 2}. Fill it in or delete the line.")
    twice = table.loc[table[SLIDE].duplicated(), SLIDE]
    if len(twice):
        raise LabelTableError(f"{path}: {_some('slide id', twice.unique())} in more than one line. Keep one line a slide.")


def _binary(path: Path, slide_ids: pd.Series, column: pd.Series) -> pd.Series:
    values = column.str.strip().map(BINARY)
    odd = ~column.str.strip().isin(BINARY)
    if odd.any():
        row = odd.idxmax()
        raise LabelTableError(
            f"{path}: column '{column.name}' holds '{column[row]}' for slide {slide_ids[row]} (line {row + 2}); "
            "expected 0, 1 or blank. Name the task columns with `tasks:` if this is no label."
        )
    return values.astype(float)


def _some(what: str, names: Sequence[str], most: int = 3) -> str:
    """"2 slide ids (a, b)", shortened."""
    shown = ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")
    return f"{len(names)} {what}{'s' * (len(names) != 1)} ({shown})"
