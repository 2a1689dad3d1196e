"""Patients who stand in a cohort under several ids, and may so stand on two sides of a fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import pandas as pd

from milbench.labels.barcode import barcode_kind, tcga_patient
from milbench.labels.finding import ERROR, NOTE, WARNING, Finding, some
from milbench.labels.patients import differ_in_zeros, longer_barcodes, own_slide, parted
from milbench.splits import Split

AS_GIVEN = "If the ids are meant as they are, write `patients: as_given` in cohort.yaml."

ARTICLES = {"aliquot": "an aliquot"}


def patient_findings(slides: pd.DataFrame, split: Split | None, *, as_given: bool = False) -> list[Finding]:
    """Ids that name less than a patient; an error where slides of one patient stand on two sides of a fold.

    Parameters
    ----------
    slides : `slide_id`, `patient_id`.
    split : None = not known, then nothing is an error.
    as_given : whether the user says that the ids are meant so; an error is a warning then, and a warning a note.
    """
    several = parted(slides)
    longer = longer_barcodes(dict.fromkeys(slides["patient_id"]))
    of_barcodes = {name: ids for name, ids in several.items() if set(ids) <= set(longer)}
    others = {name: ids for name, ids in several.items() if name not in of_barcodes}
    found = [
        _barcodes(longer, of_barcodes, split) if longer else None,
        _spellings(others, split) if others else None,
        _own_slides(slides) if own_slide(slides) and not several and not longer else None,
        _zeros(differ_in_zeros(dict.fromkeys(slides["patient_id"]))),
    ]
    return [_meant(finding) if as_given else finding for finding in found if finding is not None]


def _meant(finding: Finding) -> Finding:
    """The finding where the user says that it is meant: nothing is refused, and a reader of results still learns of a leak."""
    severity = WARNING if finding.severity == ERROR else NOTE
    return finding._replace(severity=severity, fix="`patients: as_given` says that this is meant.")


def _barcodes(longer: Sequence[str], several: Mapping[str, tuple[str, ...]], split: Split | None) -> Finding:
    """Ids that are barcodes of samples, slides and the like, of more or as many patients as there are ids."""
    kind = Counter(map(barcode_kind, longer)).most_common(1)[0][0]
    kinds = "file names" if kind == "file name" else f"{kind} barcodes"
    patients = dict.fromkeys(map(tcga_patient, longer))
    text = f"{len(longer)} patient ids are {kinds} of {len(patients)} TCGA patients ({some(longer)})"
    fix = f"Write the patient's barcode, its first 12 characters ('{next(iter(patients))}'), in their place. {AS_GIVEN}"
    return _with_sides(text, fix, several, split)


def _spellings(several: Mapping[str, tuple[str, ...]], split: Split | None) -> Finding:
    """Ids that differ in spelling only, or whose slides are of one TCGA patient."""
    shown = some([" = ".join(f"'{patient}'" for patient in ids[:3]) for ids in several.values()])
    n_ids = len(list(chain.from_iterable(several.values())))
    text = f"{n_ids} patient ids seem to be {len(several)} patient{'s' * (len(several) != 1)}: {shown}"
    return _with_sides(text, f"Give all slides of a patient one and the same id. {AS_GIVEN}", several, split)


def _zeros(several: Sequence[tuple[str, ...]]) -> Finding | None:
    """A warning and no error: the patients of two hospitals may be numbered 001, 002, ... and 1, 2, ..."""
    if not several:
        return None
    shown = some([" and ".join(f"'{patient}'" for patient in ids[:3]) for ids in several])
    text = f"patient ids that differ in zeros alone count as different patients: {shown}"
    return Finding(
        WARNING, text, f"If they are one patient, a spreadsheet dropped the zeros: write them alike. {AS_GIVEN}"
    )


def _with_sides(text: str, fix: str, several: Mapping[str, tuple[str, ...]], split: Split | None) -> Finding:
    roles = {} if split is None else roles_of(split)
    apart = [name for name, ids in several.items() if on_two_sides(ids, roles)]
    if not apart:
        return Finding(WARNING, text, fix)
    whose = f"{len(apart)} patient{'s' * (len(apart) != 1)}"
    return Finding(ERROR, f"{text}; slides of {whose} stand on two sides of a fold, so that the test leaks", fix)


Roles = Mapping[str, tuple[str, ...]]
"""By patient, the role in every fold."""


def roles_of(split: Split) -> Roles:
    """The split, to look patients up in."""
    folds = split.table.drop(columns="patient_id")
    return dict(zip(split.table["patient_id"], folds.itertuples(index=False, name=None), strict=True))


def on_two_sides(patients: Iterable[str], roles: Roles) -> bool:
    """Whether a fold has two roles for the patients."""
    return len({roles[patient] for patient in patients if patient in roles}) > 1


def _own_slides(slides: pd.DataFrame) -> Finding:
    text = f"every patient is called as its slide ({slides['patient_id'].iloc[0]}), so each slide counts as a patient"
    fix = f"If a patient may have several slides, write the patient in place of the slide. {AS_GIVEN}"
    return Finding(WARNING, text, fix)
