"""Tables of a run: its labels and splits, checked as they are read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from milbench.endpoints.endpoint import ALL_BINARY, WITH_CLASSES
from milbench.store.files import text_table

if TYPE_CHECKING:
    import pandas as pd

IDS = ["slide_id", "patient_id"]
ROLES = {"train", "val", "test"}
VALUES = {"", "0", "1", "0.0", "1.0", "nan"}


def labels_from(text: str, sha256: str = "", endpoints: Mapping[str, Any] = ALL_BINARY) -> pd.DataFrame:
    """Labels of slides: slide_id, patient_id, one column per task; NaN = unknown, a binary label is 0 or 1.

    Parameters
    ----------
    sha256 : of the text that the run wrote; "" = not recorded.
    endpoints : what tasks ask that are not binary, as datasets.json holds it.

    Raises
    ------
    ValueError : any other table.
    """
    table = _table(text, sha256)
    if list(table.columns[:2]) != IDS:
        raise ValueError(f"its columns are {_some(table)}; expected slide_id, patient_id and one per task")
    if not table["slide_id"].is_unique:
        raise ValueError("it holds a slide twice")
    tasks = table.columns[2:]
    for task in tasks:
        if task in endpoints:
            _refuse_odd_labels(task, set(table[task]) - {"", "nan"}, endpoints[task])
        elif odd := sorted(set(table[task]) - VALUES):
            raise ValueError(f"it holds the label {ascii(odd[0])[:60]} of task {task}; expected 0, 1 or nothing")
    return table.assign(**{task: table[task].replace("", "nan").astype(float) for task in tasks})


def _refuse_odd_labels(task: str, cells: Iterable[str], endpoint: Mapping[str, Any]) -> None:
    """ValueError for a cell that is no label of its kind, written as one number."""
    kind, n_classes = endpoint["kind"], len(endpoint.get("classes", ()))
    expected = {"survival": "days, negative if censored", "regression": "a number"}.get(
        kind, f"a whole number below {n_classes}"
    )
    for cell in sorted(cells):
        number = _number(cell)
        is_class = kind not in WITH_CLASSES or (number.is_integer() and 0 <= number < n_classes)
        if not math.isfinite(number) or not is_class or (kind == "survival" and number == 0):
            raise ValueError(f"it holds the label {ascii(cell)[:60]} of the {kind} task {task}; expected {expected}")


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def roles_from(text: str, sha256: str = "") -> pd.DataFrame:
    """Roles of patients: patient_id, fold_0 .. in {train, val, test}.

    Parameters
    ----------
    sha256 : of the text that the run wrote; "" = not recorded.

    Raises
    ------
    ValueError : any other table.
    """
    table = _table(text, sha256)
    folds = [f"fold_{fold}" for fold in range(table.shape[1] - 1)]
    if not folds or list(table) != ["patient_id", *folds]:
        raise ValueError(f"its columns are {_some(table)}; expected patient_id, fold_0, fold_1, ...")
    if not table["patient_id"].is_unique:
        raise ValueError("it holds a patient twice")
    if odd := sorted({role for fold in folds for role in table[fold]} - ROLES):
        raise ValueError(f"it holds the role {ascii(odd[0])[:60]}; expected train, val or test")
    return table


def _table(text: str, sha256: str) -> pd.DataFrame:
    if sha256 and hashlib.sha256(text.encode()).hexdigest() != sha256:
        raise ValueError("it is not the table that the run's trials were made with")
    table = text_table(text)
    if not table.columns.is_unique:
        raise ValueError("it holds a column twice")
    return table


def _some(table: pd.DataFrame) -> str:
    return ascii(", ".join(map(str, table.columns)))[1:-1][:200]
