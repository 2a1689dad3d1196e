"""Patients under several ids: an error where a fold would see one patient on two sides, else a warning, else meant."""

import numpy as np
import pandas as pd
import pytest

from milbench.intake.patients import patient_findings
from milbench.splits import Split


def cohort(*patients: str) -> pd.DataFrame:
    return pd.DataFrame({"slide_id": [f"s{row}" for row in range(len(patients))], "patient_id": patients})


def split(**folds_by_patient: str) -> Split:
    """Roles by patient, one letter per fold: t, v or e."""
    roles = {"t": "train", "v": "val", "e": "test"}
    rows = {patient: [roles[letter] for letter in letters] for patient, letters in folds_by_patient.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns = [f"fold_{fold}" for fold in table]
    return Split(table.rename_axis("patient_id").reset_index(), "mine")


SLIDES = ("TCGA-3C-AALI-01Z-00-DX1", "TCGA-3C-AALI-01Z-00-DX2", "TCGA-3C-AALJ-01Z-00-DX1")


def test_slide_barcodes_on_two_sides_are_an_error_with_the_counts_and_the_fix() -> None:
    (found,) = patient_findings(cohort(*SLIDES), split(**dict(zip(SLIDES, ("te", "ee", "tt"), strict=True))))
    assert found.severity == "error"
    assert found.what.startswith("3 patient ids are slide barcodes of 2 TCGA patients (TCGA-3C-AALI-01Z-00-DX1, ")
    assert "slides of 1 patient stand on two sides of a fold" in found.what
    assert "its first 12 characters ('TCGA-3C-AALI')" in found.fix
    assert "`patients: as_given`" in found.fix
    (meant,) = patient_findings(
        cohort(*SLIDES), split(**dict(zip(SLIDES, ("te", "ee", "tt"), strict=True))), as_given=True
    )
    assert (meant.severity, meant.what) == ("warning", found.what)


def test_slide_barcodes_that_no_fold_parts_are_a_warning() -> None:
    together = split(**dict(zip(SLIDES, ("te", "te", "tt"), strict=True)))
    for known in (together, None):
        (found,) = patient_findings(cohort(*SLIDES), known)
        assert found.severity == "warning"
        assert "two sides" not in found.what


@pytest.mark.parametrize(
    ("patients", "words"),
    [
        (("TCGA-3C-AALI-01A", "TCGA-3C-AALI-11A"), "sample barcodes of 1 TCGA patients"),
        (("TCGA-3C-AALI-01A-11", "TCGA-3C-AALJ-01A-11"), "portion barcodes of 2 TCGA patients"),
        (("TCGA-3C-AALI-01A-11R-A41B-07", "TCGA-3C-AALJ-01A-11R-A41B-07"), "aliquot barcodes of 2"),
        (("TCGA-3C-AALI-01Z-00-DX1.svs", "TCGA-3C-AALJ-01Z-00-DX1.svs"), "file names of 2"),
        (("P1", "p1", "P2"), "2 patient ids seem to be 1 patient: 'P1' = 'p1'"),
        (("7", "7.0", "8"), "'7' = '7.0'"),
        (("TCGA-3C-AALI", "TCGA-3C-AALI-01A"), "'TCGA-3C-AALI' = 'TCGA-3C-AALI-01A'"),
        (("s0", "s1.svs", "s2"), "every patient is called as its slide (s0), so each slide counts as a patient"),
    ],
)
def test_every_kind_of_id_is_told_and_may_be_meant(patients: tuple[str, ...], words: str) -> None:
    found = patient_findings(cohort(*patients), None)
    assert any(words in finding.what for finding in found), found
    assert {finding.severity for finding in found} == {"warning"}
    assert {finding.severity for finding in patient_findings(cohort(*patients), None, as_given=True)} == {"note"}


def test_patients_with_several_slides_and_patients_barcodes_are_nothing_to_tell() -> None:
    rng = np.random.default_rng(0)
    barcodes = [f"TCGA-{rng.integers(10, 99)}-{row:04d}" for row in range(40)]
    assert patient_findings(cohort(*barcodes, *barcodes), split(**dict.fromkeys(barcodes, "te"))) == []
    assert patient_findings(cohort("P1", "P2", "P 3", "10", "11"), None) == []


def test_only_the_patients_that_a_fold_parts_are_counted() -> None:
    roles = {"P1": "tt", "p1": "te", "P2": "tt", "p2": "tt", "P3": "tv", "p3": "tt"}
    (found,) = patient_findings(cohort(*roles), split(**roles))
    assert "6 patient ids seem to be 3 patients" in found.what
    assert "slides of 2 patients stand on two sides" in found.what


def test_ids_that_differ_in_zeros_alone_are_a_warning_also_on_two_sides() -> None:
    (found,) = patient_findings(cohort("007", "7", "8"), split(**{"007": "te", "7": "et", "8": "vv"}))
    assert found.severity == "warning"
    assert "'007' and '7'" in found.what
