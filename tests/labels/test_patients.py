"""Ids of patients: what one patient may be called, and what TCGA barcodes name."""

import unicodedata

import pandas as pd
import pytest

from milbench.labels.barcode import barcode_kind, tcga_patient
from milbench.labels.patients import differ_in_zeros, longer_barcodes, own_slide, parted, spelling


def slides(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["slide_id", "patient_id"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("TCGA-3C-AALI", "patient"),
        ("TCGA-3C-AALI-01", "sample"),
        ("TCGA-3C-AALI-01A", "sample"),
        ("TCGA-3C-AALI-01A-11", "portion"),
        ("TCGA-3C-AALI-01A-11D", "portion"),
        ("TCGA-3C-AALI-01A-11R-A41B-07", "aliquot"),
        ("TCGA-3C-AALI-01Z-00-DX1", "slide"),
        ("tcga-3c-aali-01a-02-bsb", "slide"),
        ("TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB-45CF-B4BD-C6B76294C291", "file name"),
        ("TCGA-3C-AALI-01Z-00-DX1.svs", "file name"),
        ("TCGA-3C-AALI.svs", "file name"),
    ],
)
def test_a_barcode_names_its_patient_and_says_what_it_is(name: str, kind: str) -> None:
    assert tcga_patient(name) == "TCGA-3C-AALI"
    assert barcode_kind(name) == kind
    assert longer_barcodes([name]) == ([] if kind == "patient" else [name])


@pytest.mark.parametrize(
    "name", ["P001", "TCGA-3C", "TCGA-3C-AAL", "TCGA-3C-AALIX", "TCGA-00-A00.X.000", "XTCGA-3C-AALI", ""]
)
def test_what_is_no_barcode_names_no_patient(name: str) -> None:
    assert tcga_patient(name) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P1", "p1"),
        ("Müller", unicodedata.normalize("NFD", "Müller")),
        ("P 1", "P1"),
        ("P\u00a01", "P 1"),
        ("P\u200b1", "P1"),
        ("7", "7.0"),
        ("10126", "10126.00"),
        ("P-1", "P\u20111"),
        ("P_1", "P-1"),
        ("P1", "\u04201"),  # a Cyrillic letter
        ("AB12", "\u0391\u039212"),  # Greek letters
        ("P01", "P\uff10\uff11"),  # digits of full width
        ("TCGA-3C-AALI", "tcga-3c-aali-01Z-00-DX1"),
        ("TCGA-3C-AALI-01A", "TCGA-3C-AALI-11A"),
    ],
)
def test_ids_that_differ_in_spelling_only_are_one_patient(one: str, other: str) -> None:
    assert spelling(one) == spelling(other)
    assert list(parted(slides(("a", one), ("b", other))).values()) == [(one, other)]


@pytest.mark.parametrize(
    ("one", "other"), [("7", "07"), ("7", "70"), ("7", "7.5"), ("P1.0", "P1"), ("P-1", "P1"), ("a", "ä")]
)
def test_ids_that_differ_otherwise_are_two_patients(one: str, other: str) -> None:
    assert spelling(one) != spelling(other)
    assert parted(slides(("a", one), ("b", other))) == {}


def test_ids_that_differ_in_zeros_alone_are_told() -> None:
    assert differ_in_zeros(["007", "7", "8", "P-010", "P-10", "100", "10"]) == [("007", "7"), ("P-010", "P-10")]


def test_ids_of_one_length_or_of_several_numbers_never_differ_in_zeros_alone() -> None:
    assert differ_in_zeros(["01a1", "1a01", "a0b1", "a1b0", "0", "00000001", "10000000"]) == []


def test_slides_of_one_tcga_patient_under_ids_of_their_own_part_it() -> None:
    table = slides(
        ("TCGA-3C-AALI-01Z-00-DX1", "17"), ("TCGA-3C-AALI-01Z-00-DX2", "18"), ("TCGA-3C-AALJ-01Z-00-DX1", "19")
    )
    assert parted(table) == {"TCGA-3C-AALI": ("17", "18")}
    assert parted(table.assign(patient_id=["17", "17", "18"])) == {}


def test_a_patient_called_as_its_slide_is_seen_only_where_all_are() -> None:
    assert own_slide(slides(("a", "a"), ("b", "b.svs"), ("c.1", "c.1.h5")))
    assert not own_slide(slides(("a", "a"), ("b", "p")))
    assert not own_slide(slides())
