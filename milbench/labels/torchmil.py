"""Labels of torchmil: a folder of `{slide}.npy` or `{slide}.h5` (dataset `labels`), one number per slide.

The number is 0 or 1, or a class, a grade or a score if the task `label` is declared so. A survival task needs two.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from milbench.errors import LabelTableError
from milbench.labels.cells import read_table
from milbench.labels.table import (
    PATIENT,
    SLIDE,
    LabelTable,
    endpoints_of,
    label_columns,
    refuse_blank,
    refuse_missing_patients,
    refuse_repeated,
    task_columns,
)
from milbench.labels.values import LabelColumn, Stated
from milbench.special_files import refuse_special

TASK = "label"
PATIENTS = "patients.csv"
SUFFIXES = (".npy", ".h5")


def read(folder: Path, tasks: Sequence[str] | None, stated: Stated) -> LabelTable:
    """The labels in `folder` as the task "label"; patients from `patients.csv` beside it, else one per slide.

    Raises
    ------
    LabelTableError : no file, files of both kinds, or one that does not hold a single 0 or 1, or a label of its kind.
    """
    names = task_columns(folder, [TASK], (), tasks, stated)
    is_binary = all(stated.of(name).kind == "binary" for name in names)
    if is_binary and (stated.positive or stated.unknown):
        raise LabelTableError(
            f"{folder} holds the numbers 0 and 1, so `positive:` and `unknown:` have no use. Delete them from cohort.yaml."
        )
    suffix, files = _files(folder)
    ids = [path.name.removesuffix(suffix) for path in files]
    patients, note = _patients(folder.parent / PATIENTS, ids)
    numbers = [_number(path, is_binary=is_binary) for path in files]
    columns = _columns(folder, names, files, numbers, ids, stated)
    values = {name: column.values.to_numpy() for name, column in zip(names, columns, strict=True)}
    slides = pd.DataFrame({"slide_id": ids, "patient_id": patients, **values})
    kind = f"labels: {folder.name}/ is torchmil's folder, one {suffix} file per slide; the task is called '{names[0]}'"
    notes = (kind, note, *(note for column in columns for note in column.notes))
    findings = tuple(finding for column in columns for finding in column.findings)
    slides = slides.astype({"slide_id": object, "patient_id": object})
    return LabelTable(slides, notes, findings, endpoints_of(names, columns))


def _columns(
    folder: Path,
    names: Sequence[str],
    files: Sequence[Path],
    numbers: Sequence[float],
    ids: Sequence[str],
    stated: Stated,
) -> list[LabelColumn]:
    """The labels of every task from the text of the numbers, as if they stood in a table whose lines are files."""
    lines = [path.name for path in files]
    cells = pd.DataFrame({TASK: [repr(number).removesuffix(".0") for number in numbers]}, index=lines, dtype=object)
    return label_columns(folder, cells, names, pd.Series(ids, index=lines, dtype=object), "slide", stated)


def _files(folder: Path) -> tuple[str, list[Path]]:
    found = {suffix: sorted(folder.glob(f"*{suffix}")) for suffix in SUFFIXES}
    kinds = [suffix for suffix in SUFFIXES if found[suffix]]
    if len(kinds) != 1:
        what = "both .npy and .h5 files" if kinds else "neither .npy nor .h5 files"
        raise LabelTableError(f"the label folder {folder} holds {what}. Expected one file per slide, all of one kind.")
    return kinds[0], found[kinds[0]]


def _number(path: Path, *, is_binary: bool) -> float:
    """The file's one number, whatever its shape."""
    expected = "one number, 0 or 1" if is_binary else "one number"
    refuse_special(path, LabelTableError)
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            import h5py  # takes longer to import than a report needs for its tables

            with h5py.File(path, "r") as file:
                values = np.asarray(file["labels"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise LabelTableError(f"{path} cannot be read as a label ({error}). Save {expected}.") from error
    is_number = values.size == 1 and values.dtype.kind in "biuf"
    if not is_number or (is_binary and values.item() not in (0, 1)):
        raise LabelTableError(
            f"{path} holds {values.dtype} of shape {values.shape}: {str(values)[:40]}; expected {expected}."
        )
    return float(values.item())


def _patients(path: Path, ids: Sequence[str]) -> tuple[list[str], str]:
    """The patient of every slide, and a note saying where it comes from."""
    if not path.is_file():
        return list(ids), f"no {PATIENTS} ({SLIDE}, {PATIENT}) beside the labels: each slide is taken for a patient"
    cells = read_table(path, f"Expected {SLIDE} and {PATIENT}").cells
    for column in (SLIDE, PATIENT):
        if column not in cells:
            raise LabelTableError(f"{path}: column '{column}' is missing; found {', '.join(cells)}.")
    refuse_blank(path, cells, (SLIDE, PATIENT))
    refuse_missing_patients(path, cells[PATIENT])
    refuse_repeated(path, cells[SLIDE], "slide id")
    owner = dict(zip(cells[SLIDE], cells[PATIENT], strict=True))
    missing = [slide for slide in ids if slide not in owner]
    if missing:
        raise LabelTableError(f"{path}: {len(missing)} slides have no line ({', '.join(missing[:3])}). Add them.")
    return [owner[slide] for slide in ids], f"patients from {PATIENTS}"
