"""Drawn splits: the official `m4` partition and stratified `kfold`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.splits.table import TEST_SEED, TEST_SHARE, role_table


def patients_of(slides: pd.DataFrame) -> NDArray[np.object_]:
    """Patients in file order; an object array because scikit-learn cannot index pandas' Arrow strings."""
    return np.array(list(dict.fromkeys(slides["patient_id"])), dtype=object)


def m4(patients: NDArray[np.object_], labels: NDArray[np.bool_], n_folds: int) -> pd.DataFrame:
    """Roles of the official code: one test side, validation sides that overlap. It asks for no labels."""
    from sklearn.model_selection import train_test_split  # not at the top: workers read splits and draw none

    rest, test = train_test_split(patients, test_size=TEST_SHARE, random_state=TEST_SEED)
    table = {"patient_id": patients}
    for fold in range(n_folds):
        _, validation = train_test_split(rest, test_size=TEST_SHARE, random_state=fold)
        table[f"fold_{fold}"] = np.select(
            [np.isin(patients, test), np.isin(patients, validation)], ["test", "val"], "train"
        ).astype(object)
    return pd.DataFrame(table)


def kfold(patients: NDArray[np.object_], labels: NDArray[np.bool_], n_folds: int) -> pd.DataFrame:
    """Roles of a true k-fold with one test side, stratified over all labels; `labels` [P, L]."""
    rng = np.random.default_rng(TEST_SEED)
    is_test = assign(labels, np.array([TEST_SHARE, 1 - TEST_SHARE]), rng) == 0
    fold_of = np.full(len(patients), -1)
    fold_of[~is_test] = assign(labels[~is_test], np.full(n_folds, 1 / n_folds), rng)
    return role_table(patients, is_test, fold_of)


def assign(
    labels: NDArray[np.bool_],
    shares: NDArray[np.float64],
    rng: np.random.Generator,
    taken: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Group of every patient, so that each group gets its share of each label (iterative stratification).

    Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011: take the rarest label among those left, and give each
    of its patients to the group that lacks it most; ties go to the group that lacks patients most, then to chance.
    Patients without any label come last.

    Parameters
    ----------
    labels : [P, L].
    shares : [G], of patients and of each label.
    taken : [P], groups of patients that have one already, -1 for the others; None = nobody has.
    """
    n = len(labels)
    columns = np.column_stack([labels, ~labels.any(axis=1)])
    lacking_label = shares[:, None] * columns.sum(axis=0)
    lacking = shares * n
    group = np.full(n, -1) if taken is None else taken.copy()
    for patient in np.flatnonzero(group >= 0):
        lacking[group[patient]] -= 1
        lacking_label[group[patient]] -= columns[patient]
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
