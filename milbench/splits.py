"""Splits: patients -> test side and fold roles. One splitter, several protocols, all on patients.

``m4``
    Exactly the official code's partition (Bigyehahaha/M4@192a77b): one random fifth of the patients is the
    test set, then fold i draws a random fifth of the rest for validation with seed i. The paper calls it
    five-fold cross-validation; it is five random splits whose validation sides overlap.
``kfold``
    The same share for testing, then true k-fold over the remaining patients: each validates exactly once.
    Both stratified over all tasks at once.
a file
    A table saved by milbench.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from milbench.errors import SplitError, UsageError

ROLES = ("train", "val", "test")
N_FOLDS = 5
TEST_SHARE = 0.2
TEST_SEED = 42


@dataclass(frozen=True, eq=False)
class Split:
    """Roles of every patient in every fold.

    Attributes
    ----------
    table : DataFrame `patient_id, fold_0 .. fold_{k-1}`, roles in {train, val, test}; patients in cohort order.
    protocol : what made it.
    """

    table: pd.DataFrame
    protocol: str

    @property
    def n_folds(self) -> int:
        """Number of folds k."""
        return len(self.table.columns) - 1

    @cached_property
    def sha256(self) -> str:
        """Hash of the table; stands in every trial's identity."""
        return hashlib.sha256(self.to_csv().encode()).hexdigest()

    def slides(self, slides: pd.DataFrame, fold: int, role: str) -> pd.DataFrame:
        """Rows of `slides` whose patient has `role` in `fold`, in cohort order."""
        patients = self.table.loc[self.table[f"fold_{fold}"] == role, "patient_id"]
        return slides[slides["patient_id"].isin(set(patients))].reset_index(drop=True)

    def to_csv(self) -> str:
        """The table as text, the same on every platform."""
        return str(self.table.to_csv(index=False, lineterminator="\n"))

    @classmethod
    def from_csv(cls, path: Path) -> Split:
        """A saved table.

        Raises
        ------
        SplitError : missing, unreadable, or with other columns or roles.
        """
        try:
            table = pd.read_csv(io.StringIO(path.read_text(encoding="utf-8-sig")), dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise SplitError(f"the split table {path} cannot be read ({error}).") from error
        folds = [f"fold_{fold}" for fold in range(table.shape[1] - 1)]
        if not folds or list(table) != ["patient_id", *folds]:
            raise SplitError(f"{path}: columns are {', '.join(table)}; expected patient_id, fold_0, fold_1, ...")
        odd = table[folds].stack().loc[lambda roles: ~roles.isin(ROLES)]
        if len(odd):
            raise SplitError(
                f"{path}: role '{odd.iloc[0]}' in line {odd.index[0][0] + 2}; expected train, val or test."
            )
        return cls(table.astype(object), str(path))


def make_split(slides: pd.DataFrame, tasks: Sequence[str], protocol: str, *, n_folds: int = N_FOLDS) -> Split:
    """The split of a cohort.

    Parameters
    ----------
    slides : the cohort's table, `patient_id` and task columns in {0, 1, NaN}.
    protocol : "m4", "kfold" or the path of a saved table.

    Raises
    ------
    SplitError : too few patients, or a table that does not fit the cohort.
    UsageError : neither a protocol nor a file.
    """
    patients = _patients(slides)
    if protocol in ("m4", "kfold") and len(patients) < 2 * n_folds:
        raise SplitError(
            f"{len(patients)} patients are too few for {n_folds} folds and a test side; "
            f"at least {2 * n_folds} are needed."
        )
    if protocol == "m4":
        return Split(_m4(patients, n_folds), "m4")
    if protocol == "kfold":
        return Split(_kfold(patients, _patient_labels(slides, tasks), n_folds), "kfold")
    if not Path(protocol).is_file():
        raise UsageError(
            f"splits '{protocol}' is neither kfold, m4 nor a file. Check --splits or the cohort's `splits:`."
        )
    return Split.from_csv(Path(protocol))


def _patients(slides: pd.DataFrame) -> NDArray[np.object_]:
    """Patients in file order; an object array because scikit-learn cannot index pandas' Arrow strings."""
    return np.array(list(dict.fromkeys(slides["patient_id"])), dtype=object)


def _m4(patients: NDArray[np.object_], n_folds: int) -> pd.DataFrame:
    rest, test = train_test_split(patients, test_size=TEST_SHARE, random_state=TEST_SEED)
    table = {"patient_id": patients}
    for fold in range(n_folds):
        _, validation = train_test_split(rest, test_size=TEST_SHARE, random_state=fold)
        table[f"fold_{fold}"] = np.select(
            [np.isin(patients, test), np.isin(patients, validation)], ["test", "val"], "train"
        ).astype(object)
    return pd.DataFrame(table)


def _kfold(patients: NDArray[np.object_], labels: NDArray[np.bool_], n_folds: int) -> pd.DataFrame:
    rng = np.random.default_rng(TEST_SEED)
    is_test = _assign(labels, np.array([TEST_SHARE, 1 - TEST_SHARE]), rng) == 0
    fold_of = np.full(len(patients), -1)
    fold_of[~is_test] = _assign(labels[~is_test], np.full(n_folds, 1 / n_folds), rng)
    table = {"patient_id": patients}
    for fold in range(n_folds):
        table[f"fold_{fold}"] = np.select([is_test, fold_of == fold], ["test", "val"], "train").astype(object)
    return pd.DataFrame(table)


def _assign(labels: NDArray[np.bool_], shares: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Group of every patient, so that each group gets its share of each label (iterative stratification).

    Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011: take the rarest label among those left, and give each
    of its patients to the group that lacks it most; ties go to the group that lacks patients most, then to chance.
    Patients without any label come last.
    """
    n = len(labels)
    columns = np.column_stack([labels, ~labels.any(axis=1)])
    lacking_label = shares[:, None] * columns.sum(axis=0)
    lacking = shares * n
    group = np.full(n, -1)
    while (group < 0).any():
        left = (columns & (group < 0)[:, None]).sum(axis=0)
        rarest = int(np.argmin(np.where(left > 0, left, n + 1)))
        for patient in rng.permutation(np.flatnonzero(columns[:, rarest] & (group < 0))):
            order = np.lexsort((rng.random(len(shares)), -lacking, -lacking_label[:, rarest]))
            chosen = int(order[0])
            group[patient] = chosen
            lacking[chosen] -= 1
            lacking_label[chosen] -= columns[patient]
    return group


def _patient_labels(slides: pd.DataFrame, tasks: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a patient is positive on any slide, for every task, and negative, [P, 2T].

    Both classes are spread, so that unknown labels and common ones are balanced too.
    """
    groups = slides.groupby("patient_id", sort=False)[list(tasks)]
    positive, negative = groups.max().to_numpy() == 1, groups.min().to_numpy() == 0
    return np.column_stack([positive, negative])


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
            rows += [(*counts, task, int((side[task] == 1).sum()), int((side[task] == 0).sum())) for task in tasks]
    table = pd.DataFrame(rows, columns=["fold", "role", "patients", "slides", "task", "positives", "negatives"])
    one_class = table[(table["positives"] == 0) | (table["negatives"] == 0)]
    return Audit(table, tuple(_one_class_warnings(one_class)))


def _refuse_leaks(split: Split, slides: pd.DataFrame) -> None:
    twice = split.table.loc[split.table["patient_id"].duplicated(), "patient_id"]
    if len(twice):
        raise SplitError(
            f"patient {twice.iloc[0]} stands in {split.protocol} more than once and could be on two sides. "
            "Keep one row a patient."
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
