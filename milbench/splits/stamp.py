"""STAMP's splits: `splits.json`, `{"splits": [{"train_patients": [...], "test_patients": [...]}, ...]}`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from milbench.errors import SplitError
from milbench.special_files import refuse_special
from milbench.splits.other_tools import ForeignSplit
from milbench.splits.table import Split

FILE = "splits.json"
SIDES = {"train_patients": "train", "test_patients": "test"}


def find(path: Path) -> Path | None:
    """The file, given itself or its folder; None if it is not STAMP's."""
    file = path / FILE if path.is_dir() else path
    return file if file.is_file() and file.suffix == ".json" else None


def read(path: Path) -> ForeignSplit:
    """The folds of a file, by patient.

    Raises
    ------
    SplitError : unreadable, another shape, or a patient on both sides.
    """
    refuse_special(path, SplitError)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SplitError(f"the split {path} cannot be read as JSON ({error}). Write the file again.") from error
    folds = content.get("splits") if isinstance(content, dict) else None
    if not isinstance(folds, list) or not folds:
        raise SplitError(f'{path} does not hold {{"splits": [...]}} with at least one split, as STAMP writes it.')
    return ForeignSplit("STAMP", [_roles(path, number, fold) for number, fold in enumerate(folds)])


def _roles(path: Path, number: int, fold: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, role in SIDES.items():
        patients = fold.get(key) if isinstance(fold, dict) else None
        if not isinstance(patients, list) or not all(isinstance(patient, str) for patient in patients):
            raise SplitError(f"{path}: split {number} has no list of texts '{key}'. Expected {' and '.join(SIDES)}.")
        for patient in patients:
            if found.setdefault(patient, role) != role:
                raise SplitError(
                    f"{path}: patient {patient} stands in train and in test of split {number}. That leaks: keep every patient on one side."
                )
    return found


def write(split: Split, slides: pd.DataFrame, out: Path) -> list[str]:
    """Write `out` (or `out/splits.json`); training and validation patients become one side; returns notes."""
    file = out if out.suffix == ".json" else out / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    known = split.table[split.table["patient_id"].isin(set(slides["patient_id"]))]
    folds = []
    for fold in range(split.n_folds):
        is_test = known[f"fold_{fold}"] == "test"
        sides = (known["patient_id"][~is_test], known["patient_id"][is_test])
        folds.append({key: sorted(side) for key, side in zip(SIDES, sides, strict=True)})
    file.write_text(json.dumps({"splits": folds}, indent=4) + "\n", encoding="utf-8")
    return ["STAMP knows no validation side: its train_patients are our training and validation patients."]
