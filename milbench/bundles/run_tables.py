"""Run tables: the split and the labels of a cohort as they lie in a run, read even if something in them is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from milbench.errors import StoreError
from milbench.store.files import read, text_table
from milbench.store.run import Run
from milbench.store.run_tables import ROLES, labels_from

DIFFERENT = "is not the table that the run was made with: its hash is another"


@dataclass(frozen=True, eq=False)
class Tables:
    """What a run says of the patients of one cohort.

    Attributes
    ----------
    split_file, label_file : in the run folder.
    roles : side by patient, one mapping per fold; empty if there is no split that can be read.
    split_sha256 : of the table that lies there; "" if there is none.
    labels : slide_id as index, patient_id and one column per task; None if the run stored none.
    wrong : file and what is wrong with it.
    """

    split_file: str
    label_file: str
    roles: tuple[dict[str, str], ...] = ()
    split_sha256: str = ""
    labels: pd.DataFrame | None = None
    wrong: list[tuple[str, str]] = field(default_factory=list)


def read_tables(run: Run, dataset: str) -> Tables:
    """The cohort's split and labels, with all that is wrong with them."""
    split, labels = run.split_file(dataset), run.label_file(dataset)
    names = [path.relative_to(run.path).as_posix() for path in (split, labels)]
    wrong: list[tuple[str, str]] = []
    roles, sha256 = _split(split, run.datasets[dataset]["split_sha256"], names[0], wrong)
    return Tables(names[0], names[1], roles, sha256, _labels(run, dataset, names[1], wrong), wrong)


def _split(
    path: Path, expected: str, name: str, wrong: list[tuple[str, str]]
) -> tuple[tuple[dict[str, str], ...], str]:
    table = _read(path, text_table, name, wrong)
    if table is None:
        return (), ""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != expected:
        wrong.append((name, DIFFERENT))
    folds = [column for column in table.columns if column != "patient_id"]
    if "patient_id" not in table or not folds:
        wrong.append((name, "has no columns patient_id, fold_0, fold_1, ..."))
        return (), sha256
    wrong += [(name, what) for what in _wrong_roles(table, folds)]
    return tuple(dict(zip(table["patient_id"], table[fold], strict=True)) for fold in folds), sha256


def _wrong_roles(table: pd.DataFrame, folds: list[str]) -> list[str]:
    """Patients with two rows, and roles that are none."""
    found = []
    for patient, rows in table[table["patient_id"].duplicated(keep=False)].groupby("patient_id"):
        both = next((fold for fold in folds if rows[fold].nunique() > 1), folds[0])
        sides = " and ".join(sorted(set(rows[both])))
        found.append(f"patient {patient} stands in {len(rows)} rows, so it is on the sides {sides} of {both}")
    odd = sorted({role for fold in folds for role in table[fold]} - ROLES)
    return found + [f"holds the role {ascii(role)[:40]}; expected train, val or test" for role in odd[:3]]


def _labels(run: Run, dataset: str, name: str, wrong: list[tuple[str, str]]) -> pd.DataFrame | None:
    path, endpoints = run.label_file(dataset), run.datasets[dataset].get("endpoints", {})
    table = _read(path, lambda text: labels_from(text, "", endpoints), name, wrong)
    asked = run.asked().get(dataset)
    expected = asked.now.labels_sha256 if asked else ""
    if table is not None and expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        wrong.append((name, DIFFERENT))
    return None if table is None else table.set_index("slide_id")


def _read(
    path: Path, parse: Callable[[str], pd.DataFrame], name: str, wrong: list[tuple[str, str]]
) -> pd.DataFrame | None:
    if not path.exists() and not path.is_symlink():
        return None
    try:
        table: pd.DataFrame = read(path, parse)
    except StoreError as error:
        wrong.append((name, f"cannot be read: {error}"))
        return None
    return table
