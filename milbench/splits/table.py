"""Split: the role of every patient in every fold, as one hashed table."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.errors import LabelTableError, SplitError
from milbench.labels.cells import read_delimited
from milbench.store.csv_files import exact_csv

EXPECTED = (
    "Expected a CSV table of milbench, CLAM or Patho-Bench, or STAMP's splits.json. If it is an array, write one column "
    "per side as CLAM does: train, val, test."
)
ROLES = ("train", "val", "test")
TEST_SHARE = 0.2
TEST_SEED = 42


@dataclass(frozen=True, eq=False)
class Split:
    """Roles of every patient in every fold.

    Attributes
    ----------
    table : DataFrame `patient_id, fold_0 .. fold_{k-1}`, roles in {train, val, test}; patients in cohort order.
    protocol : what made it.
    notes : what was decided where a foreign file left something open, for the run's log.
    """

    table: pd.DataFrame
    protocol: str
    notes: tuple[str, ...] = ()

    @property
    def n_folds(self) -> int:
        """Number of folds k."""
        return len(self.table.columns) - 1

    @property
    def test_side_differs(self) -> bool:
        """Whether a patient is tested in one fold and not in another, as in other tools' cross-validation."""
        return bool(((self.table.drop(columns="patient_id") == "test").nunique(axis=1) > 1).any())

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
        return exact_csv(self.table)

    @classmethod
    def from_csv(cls, path: Path) -> Split:
        """A saved table.

        Raises
        ------
        SplitError : missing, unreadable, or with other columns or roles.
        """
        try:
            table = read_delimited(path, EXPECTED.removesuffix(".")).cells
        except LabelTableError as error:
            what = str(error)
            raise SplitError(f"the split {what if EXPECTED in what else f'{what} {EXPECTED}'}") from error
        folds = [f"fold_{fold}" for fold in range(table.shape[1] - 1)]
        if not folds or list(table) != ["patient_id", *folds]:
            raise SplitError(
                f"{path}: columns are {', '.join(table)}; expected patient_id, fold_0, fold_1, ... (milbench), or "
                "train, val, test (CLAM), or case_id, slide_id, a label, fold_0, ... (Patho-Bench)."
            )
        odd = table[folds].stack().loc[lambda roles: ~roles.isin(ROLES)]
        if len(odd):
            raise SplitError(f"{path}: role '{odd.iloc[0]}' in line {odd.index[0][0]}; expected train, val or test.")
        return cls(table.reset_index(drop=True), str(path))


def role_table(patients: NDArray[np.object_], is_test: NDArray[np.bool_], fold_of: NDArray[np.int64]) -> pd.DataFrame:
    """Roles where every patient outside the one test side validates in the fold `fold_of`."""
    table = {"patient_id": patients}
    for fold in range(int(fold_of.max()) + 1):
        table[f"fold_{fold}"] = np.select([is_test, fold_of == fold], ["test", "val"], "train").astype(object)
    return pd.DataFrame(table)
