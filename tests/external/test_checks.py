"""Patients in common are found by id and by TCGA case, and files that were extracted otherwise are refused."""

import pandas as pd
import pytest

from milbench.cohorts.feature_facts import feature_facts
from milbench.errors import DataError
from milbench.external.checks import compared_extraction, shared_slides, without_shared
from milbench.formats import SlideHeader
from milbench.store.feature_facts import Facts


def slides(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["slide_id", "patient_id"])


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        (("s1", "TCGA-3C-AALI-01Z"), ("s2", "TCGA-3C-AALI")),
        (("TCGA-3C-AALI-01Z-00-DX1", "p7"), ("s2", "tcga-3c-aali-01A")),
        (("s1", "TCGA-3C-AALI"), ("TCGA-3C-AALI-01Z-00-DX1.5F", "p9")),
    ],
)
def test_one_tcga_case_under_two_names_is_one_patient(theirs: tuple[str, str], own: tuple[str, str]) -> None:
    found = shared_slides(slides(theirs, ("s9", "TCGA-3C-AALJ")), slides(own))
    assert found.slides == [theirs[0]]
    assert found.by == "TCGA case"


def test_patients_in_common_leave_nobody() -> None:
    both = slides(("a", "p1"), ("b", "p2"))
    with pytest.raises(
        DataError, match=r"2 patients of 'x' are in the run's cohort 'y' too.* no other patient is left"
    ):
        without_shared(both, both, cohort="x", dataset="y", allow=True)


def test_a_patient_whose_joined_slides_hold_a_known_case_is_dropped_as_a_whole() -> None:
    joined = slides(("TCGA-3C-AALI-01Z", "p1"), ("s2", "p1"), ("s3", "p2"))
    rows = slides(("p1", "p1"), ("p2", "p2"))
    left, told = without_shared(
        rows, slides(("s9", "TCGA-3C-AALI")), cohort="x", dataset="y", allow=True, joined=joined
    )
    assert list(left["slide_id"]) == ["p2"]
    assert told[0].startswith("dropped: 2 slides of 1 patients")


def told(**more: object) -> Facts:
    """What two files tell that were extracted alike."""
    return feature_facts([SlideHeader(5, 8, "float32", **more)] * 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("theirs", "own", "message"),
    [
        (told(encoder="uni"), told(encoder="conch"), "'x': the files' encoder is uni, that of the training conch"),
        (told(weights_sha256="ab"), told(weights_sha256="cd"), "encoder's weights is ab, that of the training cd"),
        (told(magnification=40.0), told(magnification=20.0), r"magnification is 40, that of the training 20\."),
        (told(mpp=0.25), told(mpp=0.5), r"mpp is 0\.25, that of the training 0\.5\. Extract"),
    ],
)
def test_another_extraction_is_refused(theirs: Facts, own: Facts, message: str) -> None:
    with pytest.raises(DataError, match=message):
        compared_extraction(theirs, own, "cohort 'x'")


def test_scanners_and_letters_make_no_difference() -> None:
    theirs = told(encoder="UNI", mpp=0.5021, patch_size=513.2, unit="level-0 px")
    assert compared_extraction(theirs, told(encoder="uni", mpp=0.5, patch_size=512.0, unit="level-0 px"), "x") == []


def test_what_one_side_alone_tells_is_said_and_what_none_tells_is_not() -> None:
    assert compared_extraction(told(), told(), "x") == []
    (line,) = compared_extraction(told(mpp=0.5), told(encoder="uni", magnification=20.0), "x")
    assert line == (
        "not compared with the training: encoder (told in the training only), magnification (told in the training only), "
        "mpp (told here only)"
    )


def test_another_patch_size_is_said() -> None:
    theirs, own = (told(patch_size=size, unit="level-0 px") for size in (512.0, 256.0))
    assert compared_extraction(theirs, own, "x")[0].startswith("patches are 512 level-0 px wide")
