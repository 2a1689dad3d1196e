"""Labels of STAMP: a clini table (`PATIENT`, one column per task) and a slide table (`PATIENT, FILENAME`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from milbench.errors import LabelTableError
from milbench.labels.cells import TextTable, read_table
from milbench.labels.finding import NOTE, WARNING, Finding
from milbench.labels.patients import spelling
from milbench.labels.table import (
    LabelTable,
    endpoints_of,
    label_columns,
    refuse_blank,
    refuse_missing_patients,
    refuse_repeated,
    table_findings,
    task_columns,
)
from milbench.labels.values import Stated

PATIENT, FILE = "PATIENT", "FILENAME"
EXPECTED_SLIDES = f"Expected STAMP's slide table with the columns {PATIENT} and {FILE}"


def recognises(columns: Iterable[str]) -> bool:
    """Whether the columns are those of a clini table."""
    return PATIENT in columns


def read(path: Path, table: TextTable, tasks: Sequence[str] | None, slides: Path | None, stated: Stated) -> LabelTable:
    """The patients' labels, handed to each of their slides.

    Parameters
    ----------
    path, table : the clini table.
    slides : the slide table; may be None where the clini table has a FILENAME column itself.

    Raises
    ------
    LabelTableError : no slide table, a repeated patient or file, or a cell that is no label.
    """
    owners, slide_notes = _owners(path, table, slides)
    clini = table.cells
    refuse_blank(path, clini, [PATIENT])
    refuse_missing_patients(path, clini[PATIENT])
    names = task_columns(path, list(clini), [name for name in (PATIENT, FILE) if name in clini], tasks, stated)
    if slides is not None:
        refuse_repeated(path, clini[PATIENT], "patient id")
    columns = label_columns(path, clini, names, clini[PATIENT], "patient", stated)
    labels = pd.DataFrame({name: column.values for name, column in zip(names, columns, strict=True)}, index=clini.index)
    joined = _joined(path, owners, labels.assign(patient_id=clini[PATIENT]), by_line=slides is None)
    notes = (
        f"labels: {path.name} is STAMP's clini table, each patient's labels go to all of its slides",
        *table.notes,
        *slide_notes,
        *(note for column in columns for note in column.notes),
    )
    findings = (*table_findings(names, columns), *_unmatched(owners["patient_id"], clini[PATIENT]))
    return LabelTable(joined[["slide_id", "patient_id", *names]], notes, findings, endpoints_of(names, columns))


def slide_ids(cells: pd.DataFrame) -> list[str]:
    """Slides that a clini table names itself; none if a slide table does."""
    return list(cells[FILE].map(_slide_id)) if FILE in cells else []


def _owners(path: Path, table: TextTable, slides: Path | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """`slide_id, patient_id` from the slide table, in its order."""
    source = table if slides is None else read_table(slides, EXPECTED_SLIDES)
    place = slides or path
    for column in (PATIENT, FILE):
        if column not in source.cells:
            mend = " Name the slide table with `slides:` in the cohort's YAML." if slides is None else ""
            raise LabelTableError(
                f"{place}: column '{column}' is missing. {EXPECTED_SLIDES}; found {', '.join(source.cells)}.{mend}"
            )
    refuse_blank(place, source.cells, (PATIENT, FILE))
    refuse_missing_patients(place, source.cells[PATIENT])
    slide_ids = source.cells[FILE].map(_slide_id)
    refuse_repeated(place, slide_ids, "slide id")
    owners = pd.DataFrame({"slide_id": slide_ids, "patient_id": source.cells[PATIENT]}).astype(object)
    return owners, source.notes if slides is not None else ()


def _slide_id(file: str) -> str:
    """The file's name without folder and `.h5`; other dots belong to the id."""
    return file.replace("\\", "/").rpartition("/")[2].removesuffix(".h5")


def _joined(path: Path, owners: pd.DataFrame, labels: pd.DataFrame, *, by_line: bool) -> pd.DataFrame:
    if by_line:  # one table with a line per slide: its labels are the slide's own
        return owners.join(labels.drop(columns="patient_id")).reset_index(drop=True)
    joined = owners.merge(labels, on="patient_id", how="inner", sort=False)
    if joined.empty:
        raise LabelTableError(
            f"{path}: no {PATIENT} of it is in the slide table, which begins with '{owners['patient_id'].iloc[0]}'; "
            f"here '{labels['patient_id'].iloc[0]}'. Use the same ids in both."
        )
    return joined


def _unmatched(in_slides: pd.Series, in_clini: pd.Series) -> list[Finding]:
    """Patients of one table only; a warning where both tables hold them, spelt in two ways."""
    without_label = in_slides[~in_slides.isin(set(in_clini))]
    without_slide = in_clini[~in_clini.isin(set(in_slides))]
    fix = _spelt_otherwise(without_label, without_slide)
    told = {
        f"{len(without_label)} slides belong to patients without a line in the clini table: left out": len(
            without_label
        ),
        f"{len(without_slide)} patients of the clini table have no slide: left out": len(without_slide),
    }
    return [Finding(WARNING if fix else NOTE, text, fix) for text, count in told.items() if count]


def _spelt_otherwise(without_label: pd.Series, without_slide: pd.Series) -> str:
    """How to fix patients that the two tables spell differently; empty where there are none."""
    clini = {spelling(patient): patient for patient in without_slide}
    same = [patient for patient in dict.fromkeys(without_label) if spelling(patient) in clini]
    if not same:
        return ""
    return (
        f"{len(same)} of these patients are spelt in two ways, such as '{same[0]}' in the slide table and "
        f"'{clini[spelling(same[0])]}' in the clini table: spell them alike."
    )
