"""Splits: patients -> test side and fold roles. One splitter, several protocols, all on patients.

In: slides with patients and labels. Out: a `Split`, one hashed table of roles per patient and fold, and its audit.
Open `draw.py` first (drawn splits), then `files.py` (splits from disk).

``m4``
    Exactly the official code's partition (Bigyehahaha/M4@192a77b): one random fifth of the patients is the
    test set, then fold i draws a random fifth of the rest for validation with seed i. The paper calls it
    five-fold cross-validation; it is five random splits whose validation sides overlap.
``kfold``
    The same share for testing, then true k-fold over the remaining patients: each validates exactly once.
    Both stratified over all tasks at once, whatever their kinds (`strata.py`).
``site``
    As kfold, but every TCGA tissue source site stands whole on one side.
a path
    A table saved by milbench, CLAM's `splits_k.csv`, Patho-Bench's `k=all.tsv`, STAMP's `splits.json` or kaiko-eva's `manifest.csv`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.endpoints.endpoint import ALL_BINARY, Endpoint
from milbench.errors import SplitError, UsageError
from milbench.splits.audit import Audit, audit
from milbench.splits.draw import kfold, m4, patients_of
from milbench.splits.files import read_split
from milbench.splits.sites import site
from milbench.splits.strata import patient_strata
from milbench.splits.table import ROLES, Split

__all__ = ["N_FOLDS", "ROLES", "Audit", "Split", "audit", "make_split"]

N_FOLDS = 5

DRAWN = {"kfold": kfold, "m4": m4, "site": site}
"""Splits that are made, by protocol: patients [P], labels [P, L] and a number of folds -> roles."""


def make_split(
    slides: pd.DataFrame,
    tasks: Sequence[str],
    protocol: str,
    *,
    n_folds: int = N_FOLDS,
    endpoints: Mapping[str, Endpoint] = ALL_BINARY,
) -> Split:
    """The split of a cohort.

    Parameters
    ----------
    slides : the cohort's table, `slide_id`, `patient_id` and task columns.
    endpoints : what the tasks ask, by task.
    protocol : "m4", "kfold", "site" or the path of a saved table or of another tool's splits.

    Raises
    ------
    SplitError : too few patients, or a table that does not fit the cohort.
    UsageError : neither a protocol nor a path.
    """
    if protocol in DRAWN:
        return _drawn(slides, protocol, n_folds, patient_strata(slides, tasks, endpoints))
    if not Path(protocol).exists():
        raise UsageError(
            f"splits '{protocol}' is neither {', '.join(DRAWN)} nor a file or folder. "
            "Check --splits or the cohort's `splits:`."
        )
    return read_split(Path(protocol), slides, tasks, endpoints)


def _drawn(slides: pd.DataFrame, protocol: str, n_folds: int, labels: NDArray[np.bool_]) -> Split:
    patients = patients_of(slides)
    if len(patients) < 2 * n_folds:
        raise SplitError(
            f"{len(patients)} patients are too few for {n_folds} folds and a test side; "
            f"at least {2 * n_folds} are needed. Add patients, or name a split file with --splits."
        )
    return Split(DRAWN[protocol](patients, labels, n_folds), protocol)
