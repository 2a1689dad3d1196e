"""CLAM's splits: a folder of `splits_0.csv, splits_1.csv, ...` with the ids of each side in a column of its own.

The first column is pandas' unnamed index, and the columns have different lengths, filled up with blanks.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from milbench.errors import SplitError
from milbench.labels.cells import separator_of
from milbench.special_files import refuse_special
from milbench.splits.other_tools import ForeignSplit
from milbench.splits.table import ROLES, Split

FILE = re.compile(r"splits_(\d+)\.csv")  # not splits_0_bool.csv nor splits_0_descriptor.csv, which CLAM writes beside


def find(path: Path) -> list[Path]:
    """The split files in a folder by number, or the one file; empty if they are not CLAM's."""
    if path.is_file():
        return [path] if path.suffix == ".csv" and _is_clams(_rows(path)[0]) else []
    numbered: dict[int, Path] = {}
    for file, match in ((file, FILE.fullmatch(file.name)) for file in sorted(path.iterdir())):
        if match and (other := numbered.setdefault(int(match[1]), file)) != file:
            raise SplitError(f"{path}: {other.name} and {file.name} are both of fold {int(match[1])}. Delete one.")
    return [numbered[number] for number in sorted(numbered)]


def read(path: Path) -> ForeignSplit:
    """The folds of a folder or file.

    Raises
    ------
    SplitError : a number is missing, a file has other columns, or an id stands in a file twice.
    """
    files = find(path)
    for number, file in enumerate(files):
        if len(files) > 1 and file.name != f"splits_{number}.csv":
            raise SplitError(f"{path}: splits_{number}.csv is missing, but there is {file.name}. Number them from 0.")
    return ForeignSplit("CLAM", [_roles(file) for file in files])


def _is_clams(header: list[str]) -> bool:
    """Whether the columns are sides: those of CLAM, or two of them, as its offspring write."""
    sides = _sides(header)
    return "train" in sides and len(sides) > 1 and sides <= set(ROLES)


def _sides(header: list[str]) -> set[str]:
    """The named columns; pandas' index has no name, or "Unnamed: 0" once it was read and saved again."""
    return {name for name in header if name and not name.startswith("Unnamed")}


def _rows(path: Path) -> list[list[str]]:
    refuse_special(path, SplitError)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = separator_of(file.readline(), ",")
            file.seek(0)
            header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file, delimiter=delimiter)] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise SplitError(f"the split {path} cannot be read ({error}). Save it as comma-separated UTF-8.") from error
    return [[name.lower() if name.lower() in ROLES else name for name in header], *rows]


def _roles(path: Path) -> dict[str, str]:
    header, *rows = _rows(path)
    if not _is_clams(header):
        raise SplitError(
            f"{path}: columns are {', '.join(header) or 'none'}; expected CLAM's: one without name, then "
            f"{', '.join(ROLES)}."
        )
    if twice := [role for role in ROLES if header.count(role) > 1]:
        raise SplitError(
            f"{path}: {header.count(twice[0])} columns are called '{twice[0]}'. Put all ids of a side into one."
        )
    sides = {role: _ids(header, rows, role) for role in ROLES}
    _refuse_no_test_side(path, sides)
    found: dict[str, str] = {}
    for role, names in sides.items():
        for name, line in names.items():
            if found.setdefault(name, role) != role:
                raise SplitError(
                    f"{path}: '{name}' in line {line} stands in {found[name]} and in {role}. Keep it on one side."
                )
    return found


def _ids(header: list[str], rows: list[list[str]], role: str) -> dict[str, int]:
    """Line by id of one side."""
    if role not in header:
        return {}
    column = header.index(role)
    # pandas pads short columns, other writers cut the line
    return {row[column]: line for line, row in enumerate(rows, 2) if len(row) > column and row[column]}


def _refuse_no_test_side(path: Path, sides: Mapping[str, Mapping[str, int]]) -> None:
    """A side that chose the epochs can't be the one that is reported."""
    if not sides["test"]:
        raise SplitError(
            f"{path} has no test side. If its val side was only reported on, rename that column to 'test': milbench "
            "then draws a validation side from the training patients. Else add a column 'test'."
        )
    if set(sides["val"]) == set(sides["test"]):
        raise SplitError(
            f"{path}: the test side is a copy of the val side, so it would choose epochs and be reported on. Delete the "
            "column 'val': milbench then draws a validation side from the training patients."
        )


def write(split: Split, slides: pd.DataFrame, out: Path) -> list[str]:
    """Write `out/splits_<fold>.csv` with slide ids; returns notes."""
    out.mkdir(parents=True, exist_ok=True)
    for fold in range(split.n_folds):
        sides = [split.slides(slides, fold, role)["slide_id"] for role in ROLES]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["", *ROLES])
        writer.writerows([number, *row] for number, row in enumerate(zip_longest(*sides, fillvalue="")))
        (out / f"splits_{fold}.csv").write_text(text.getvalue(), encoding="utf-8")
    return []
