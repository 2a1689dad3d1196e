"""Foreign splits: roles by slide or patient id -> one role per patient and fold; nothing is filled in silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from milbench.endpoints.endpoint import ALL_BINARY, Endpoint
from milbench.errors import SplitError
from milbench.splits.draw import assign, patients_of
from milbench.splits.spelling import respelled
from milbench.splits.strata import patient_strata
from milbench.splits.table import TEST_SEED, Split

VALIDATION_SHARE = 0.2

SIDES_DIFFER = "the test side differs between folds: the spread over folds is also that of the test patients"

Roles = Mapping[str, str]
"""Role by slide or patient id, in one fold."""


class ForeignSplit(NamedTuple):
    """What a file of another tool says.

    Attributes
    ----------
    tool : "CLAM", "Patho-Bench", "STAMP" or "kaiko-eva".
    folds : role by id for every fold; ids are slides or patients.
    """

    tool: str
    folds: Sequence[Roles]


def to_split(
    path: Path,
    foreign: ForeignSplit,
    slides: pd.DataFrame,
    tasks: Sequence[str],
    endpoints: Mapping[str, Endpoint] = ALL_BINARY,
) -> Split:
    """The roles of the cohort's patients.

    Raises
    ------
    SplitError : ids that the cohort does not know, a patient with two roles in a fold or none.
    """
    foreign, patient_of, what, spelling = _known_ids(path, foreign, slides)
    patients = patients_of(slides)
    folds = [_patient_roles(path, fold, roles, patient_of) for fold, roles in enumerate(foreign.folds)]
    unknown = _unknown(foreign, patient_of)
    _refuse_gaps(path, folds, list(patients), unknown)
    table = pd.DataFrame(
        {"patient_id": patients, **{f"fold_{n}": [roles[p] for p in patients] for n, roles in enumerate(folds)}}
    ).astype(object)
    notes = [
        f"splits: {path.name} is of {foreign.tool}, {len(folds)} folds of {what} ids",
        *spelling,
        *(f"{text}: ignored" for text in unknown),
        *(_unlisted(foreign, slides) if what == "slide" else []),
        *([SIDES_DIFFER] if Split(table, "").test_side_differs else []),
    ]
    without = [fold for fold in range(len(folds)) if not (table[f"fold_{fold}"] == "val").any()]
    if without:
        table = _with_validation(table, patient_strata(slides, tasks, endpoints), without)
        notes.append(
            f"{foreign.tool} gives no validation side in {len(without)} of {len(folds)} folds: "
            f"{VALIDATION_SHARE:.0%} of their training patients validate, drawn with seed {TEST_SEED} and stratified "
            "over all tasks"
        )
    return Split(table, str(path), tuple(notes))


class _KnownIds(NamedTuple):
    """A split in the cohort's own ids, patient by id, what the ids are, and notes on those spelled otherwise."""

    foreign: ForeignSplit
    patient_of: dict[str, str]
    what: str
    notes: list[str]


def _known_ids(path: Path, foreign: ForeignSplit, slides: pd.DataFrame) -> _KnownIds:
    """The split with ids of slides or of patients, whichever the cohort knows more of."""
    ids = _ids(foreign)
    by_slide = dict(zip(slides["slide_id"], slides["patient_id"], strict=True))
    by_patient = {patient: patient for patient in by_slide.values()}
    kinds = [(owners, what, *respelled(ids, owners)) for owners, what in ((by_patient, "patient"), (by_slide, "slide"))]
    owners, what, meant, notes = max(kinds, key=lambda kind: len(ids.keys() & kind[0].keys()) + len(kind[2]))
    if not ids.keys() & owners.keys() and not meant:
        example = next(iter(ids), "nothing")
        raise SplitError(
            f"{path}: none of its {len(ids)} ids is a slide or patient of the cohort. The file says '{example}', the "
            f"cohort '{slides['slide_id'].iloc[0]}' and '{slides['patient_id'].iloc[0]}'. Ids are compared as text."
        )
    folds = [_renamed(path, roles, meant) for roles in foreign.folds]
    return _KnownIds(foreign._replace(folds=folds), owners, what, notes)


def _ids(foreign: ForeignSplit) -> dict[str, None]:
    """All ids, each once, in the order of the file."""
    return dict.fromkeys(name for roles in foreign.folds for name in roles)


def _renamed(path: Path, roles: Roles, meant: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, role in roles.items():
        if found.setdefault(meant.get(name, name), role) != role:
            raise SplitError(f"{path}: '{name}' stands on two sides, once spelled otherwise. Keep it on one side.")
    return found


def _patient_roles(path: Path, fold: int, roles: Roles, patient_of: Mapping[str, str]) -> dict[str, str]:
    """Role by patient in one fold; a patient whose slides stand on two sides is a leak."""
    found: dict[str, str] = {}
    for name, role in roles.items():
        patient = patient_of.get(name)
        if patient is not None and found.setdefault(patient, role) != role:
            raise SplitError(
                f"{path}: patient {patient} stands in {found[patient]} and in {role} of fold {fold} (with '{name}'). "
                "That leaks: keep all slides of a patient on one side."
            )
    return found


def _refuse_gaps(path: Path, folds: Sequence[Roles], patients: Sequence[str], unknown: Sequence[str]) -> None:
    hint = f" {unknown[0]}: are these theirs?" if unknown else ""
    for fold, roles in enumerate(folds):
        missing = [patient for patient in patients if patient not in roles]
        if missing:
            raise SplitError(
                f"{path}: {len(missing)} patients of the cohort have no role in fold {fold} "
                f"({', '.join(missing[:3])}). Add them, or take them out of the label table.{hint}"
            )


def _unknown(foreign: ForeignSplit, patient_of: Mapping[str, str]) -> list[str]:
    """A text on the ids that the cohort does not know, or nothing."""
    ids = _ids(foreign)
    unknown = [name for name in ids if name not in patient_of]
    shown = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
    return [f"{len(unknown)} of {len(ids)} ids of the split are not in the cohort ({shown})"] if unknown else []


def _unlisted(foreign: ForeignSplit, slides: pd.DataFrame) -> list[str]:
    """A note on slides that follow their patient, since another of the patient's slides is listed."""
    listed = _ids(foreign).keys()
    count = int((~slides["slide_id"].isin(listed)).sum())
    return [f"{count} slides are not in the split: each follows the other slides of its patient"] if count else []


def _with_validation(table: pd.DataFrame, labels: np.ndarray, folds: Sequence[int]) -> pd.DataFrame:
    """The table with a validation side drawn from the training side of `folds`; rows match `labels`."""
    drawn = table.copy()
    shares = np.array([VALIDATION_SHARE, 1 - VALIDATION_SHARE])
    for fold in folds:
        train = np.flatnonzero(table[f"fold_{fold}"] == "train")
        side = assign(labels[train], shares, np.random.default_rng([TEST_SEED, fold]))
        drawn.loc[train[side == 0], f"fold_{fold}"] = "val"
    return drawn
