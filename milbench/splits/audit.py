"""Audit: what a split gives every task in every fold; a leak is an error before anything trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from milbench.errors import SplitError
from milbench.splits.table import ROLES, Split


@dataclass(frozen=True, eq=False)
class Audit:
    """What a split gives every task in every fold.

    Attributes
    ----------
    table : DataFrame fold, role, task, patients, slides, positives, negatives.
    warnings : one line for each fold and side with one class only, where a task gets no AUROC.
    """

    table: pd.DataFrame
    warnings: tuple[str, ...]


def audit(split: Split, slides: pd.DataFrame, tasks: Sequence[str]) -> Audit:
    """Counts by fold, role and task.

    Raises
    ------
    SplitError : a patient stands in two rows, has no row, or a side of a fold is empty.
    """
    _refuse_leaks(split, slides)
    rows = []
    for fold in range(split.n_folds):
        for role in ROLES:
            side = split.slides(slides, fold, role)
            if side.empty:
                raise SplitError(f"fold {fold} of the {split.protocol} split has no {role} slides. Use another split.")
            counts = (fold, role, side["patient_id"].nunique(), len(side))
            labels = side[list(tasks)].to_numpy(
                dtype=float
            )  # [slides, tasks]; column by column takes seconds for thousands
            of_each = zip(tasks, (labels == 1).sum(axis=0).tolist(), (labels == 0).sum(axis=0).tolist(), strict=True)
            rows += [(*counts, task, positives, negatives) for task, positives, negatives in of_each]
    table = pd.DataFrame(rows, columns=["fold", "role", "patients", "slides", "task", "positives", "negatives"])
    one_class = table[(table["positives"] == 0) | (table["negatives"] == 0)]
    return Audit(table, tuple(_one_class_warnings(one_class)))


def _refuse_leaks(split: Split, slides: pd.DataFrame) -> None:
    twice = split.table.loc[split.table["patient_id"].duplicated(), "patient_id"]
    if len(twice):
        raise SplitError(
            f"patient {twice.iloc[0]} stands in {split.protocol} more than once and could be on two sides. "
            "Keep one row per patient."
        )
    missing = set(slides["patient_id"]) - set(split.table["patient_id"])
    if missing:
        raise SplitError(
            f"{len(missing)} patients have no role in the split {split.protocol} ({', '.join(sorted(missing)[:3])}). "
            "Add them or make another split."
        )


def _one_class_warnings(rows: pd.DataFrame) -> list[str]:
    what = {
        "train": "cannot learn",
        "val": "gets no validation AUROC",
        "test": "gets no test AUROC (NaN, left out of means)",
    }
    return [
        f"{row.task} has {row.positives} positive and {row.negatives} negative {row.role} slides in fold {row.fold}: "
        f"it {what[row.role]}"
        for row in rows.itertuples()
    ]
