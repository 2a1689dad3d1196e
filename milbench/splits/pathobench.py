"""Patho-Bench's splits: a table `case_id, slide_id, <label>, fold_0 .. fold_{k-1}`, one line per slide.

The published tables are tab-separated and say train and test only; Patho-Bench itself also reads commas and `val`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from milbench.errors import LabelTableError, SplitError
from milbench.labels import PATIENT, SLIDE
from milbench.labels.cells import read_table, separator_of
from milbench.labels.pathobench import fold_columns, recognises
from milbench.splits.other_tools import ForeignSplit
from milbench.splits.table import ROLES, Split
from milbench.store.csv_files import exact_csv

FILE = "k=all.tsv"


def find(path: Path) -> Path | None:
    """The table, given itself or its folder; None if it is not Patho-Bench's."""
    file = path / FILE if path.is_dir() else path
    is_table = file.is_file() and (file.suffix == ".tsv" or (file.suffix == ".csv" and recognises(header_of(file))))
    return file if is_table else None


def header_of(path: Path) -> list[str]:
    """Columns of a table, from its first line."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline()
        return [name.strip() for name in line.split(separator_of(line, ","))]


def read(path: Path) -> ForeignSplit:
    """The folds of a table, by patient.

    Raises
    ------
    SplitError : unreadable, without fold columns, another role, or a patient with two roles in a fold.
    """
    try:
        cells = read_table(path, f"Expected {PATIENT}, {SLIDE}, a label and fold columns").cells
    except LabelTableError as error:
        raise SplitError(str(error)) from error
    if not recognises(cells):
        raise SplitError(
            f"{path}: columns are {', '.join(cells)}; expected Patho-Bench's {PATIENT}, {SLIDE}, a label, fold_0, ..."
        )
    folds = fold_columns(cells)
    if folds != [f"fold_{number}" for number in range(len(folds))]:
        raise SplitError(f"{path}: fold columns are {', '.join(folds)}; expected fold_0, fold_1, ... without gap.")
    return ForeignSplit("Patho-Bench", [_roles(path, cells[PATIENT], cells[fold]) for fold in folds])


def _roles(path: Path, patients: pd.Series, roles: pd.Series) -> dict[str, str]:
    found: dict[str, str] = {}
    for line, patient, role in zip(roles.index, patients, roles, strict=True):
        if role not in ROLES:
            raise SplitError(
                f"{path}: {roles.name} is '{role}' in line {line}; expected {', '.join(ROLES)}. "
                "Few-shot tables, where patients take no part in a fold, cannot be used."
            )
        if found.setdefault(patient, role) != role:
            raise SplitError(
                f"{path}: patient {patient} stands in {found[patient]} and, in line {line}, in {role} of {roles.name}. "
                "That leaks: keep all slides of a patient on one side."
            )
    return found


def write(split: Split, slides: pd.DataFrame, out: Path) -> list[str]:
    """Write one line per slide to `out` (or `out/k=all.tsv`), all tasks as label columns; returns notes."""
    file = out if out.suffix == ".tsv" else out / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    tasks = [name for name in slides if name not in ("slide_id", "patient_id")]
    labels = {task: slides[task].map({0.0: "0", 1.0: "1"}).fillna("") for task in tasks}
    ids = {PATIENT: slides["patient_id"], SLIDE: slides["slide_id"]}
    roles = split.table.set_index("patient_id").loc[slides["patient_id"]].reset_index(drop=True)
    table = pd.concat([pd.DataFrame({**ids, **labels}), roles], axis=1)
    file.write_text(exact_csv(table, "\t"), encoding="utf-8")
    return [
        "the table says 'val' too, where Patho-Bench's own say train and test only; its `task_col` chooses one task"
    ]
