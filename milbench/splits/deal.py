"""Dealing in: new patients get roles in a saved split, and nobody who has a role moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from milbench.endpoints.endpoint import ALL_BINARY, Endpoint
from milbench.errors import SplitError
from milbench.splits.draw import assign, patients_of
from milbench.splits.strata import patient_strata
from milbench.splits.table import TEST_SEED, Split

LEAST_KNOWN = 0.5
"""Share of a cohort's patients that a saved split must know: with fewer it is most likely another cohort's."""


def deal_in(
    split: Split, slides: pd.DataFrame, tasks: Sequence[str], endpoints: Mapping[str, Endpoint] = ALL_BINARY
) -> Split:
    """The split with a role for every patient of `slides`; unchanged if it has them all.

    New patients join the groups of patients that have the same roles in all folds. Each group keeps its share of
    patients and of each label, as in a drawn split. Which group a patient joins depends on the table and on the labels
    alone.

    Raises
    ------
    SplitError : the split knows fewer than half of the patients.
    """
    known = set(split.table["patient_id"])
    patients = patients_of(slides)
    is_new = np.array([patient not in known for patient in patients])
    if not is_new.any():
        return split
    if is_new.mean() > 1 - LEAST_KNOWN:
        raise SplitError(
            f"{split.protocol} has no role for {is_new.sum()} of {len(patients)} patients ({', '.join(patients[is_new][:3])}). "
            "It is most likely the split of another cohort, or ids are spelled otherwise. Name the right table in --splits."
        )
    folds = [name for name in split.table if name != "patient_id"]
    roles = split.table.set_index("patient_id")[folds].apply(tuple, axis=1)
    groups = sorted(set(roles))
    group_of = np.array([groups.index(roles[patient]) if patient in known else -1 for patient in patients])
    shares = np.array([(roles == group).mean() for group in groups])
    dealt = assign(patient_strata(slides, tasks, endpoints), shares, np.random.default_rng(TEST_SEED), taken=group_of)
    rows = [(patient, *groups[group]) for patient, group in zip(patients[is_new], dealt[is_new], strict=True)]
    table = pd.concat([split.table, pd.DataFrame(rows, columns=list(split.table), dtype=object)], ignore_index=True)
    note = (
        f"{len(rows)} new patients were dealt into {split.protocol} by their labels ({', '.join(patients[is_new][:3])}"
        f"{', ...' if len(rows) > 3 else ''}); no other patient changed sides"
    )
    return Split(table, split.protocol, (*split.notes, note))
