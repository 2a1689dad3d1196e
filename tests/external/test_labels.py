"""Labels of an external cohort, numbered as in the training, and described in the words of their kind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milbench.cohorts.cohort import Cohort
from milbench.endpoints.endpoint import BINARY, Endpoint, Kind
from milbench.errors import DataError
from milbench.external.labels import (
    aligned_labels,
    described,
    evaluated_tasks,
    known_tasks,
    label_shift,
    label_warnings,
    refuse_another_unit,
    why_no_score,
)
from milbench.labels import read_labels
from milbench.labels.finding import Finding

GRADES = Endpoint("ordinal", ("G1", "G2", "G3", "G4"))


def cohort(endpoint: Endpoint, values: list[float]) -> Cohort:
    slides = pd.DataFrame({"slide_id": [f"s{i}" for i in range(len(values))]})
    slides = slides.assign(patient_id=slides["slide_id"], t=values)
    return Cohort("x", slides, ("t",), 4, "f", load=lambda _: None, endpoints={"t": endpoint})  # type: ignore[arg-type,return-value]


def test_grades_have_the_places_of_the_training_even_if_one_is_absent() -> None:
    theirs = Endpoint("ordinal", ("G2", "G3", "G4"))
    found = aligned_labels(cohort(theirs, [0, 1, 2, np.nan]), {"t": GRADES}, ["t"])
    np.testing.assert_array_equal(found["t"], [1, 2, 3, np.nan])


def test_grades_in_another_order_are_refused() -> None:
    theirs = Endpoint("ordinal", ("G3", "G2", "G1"))
    with pytest.raises(DataError, match="grades are in the order G3, G2, G1, in the training G1, G2, G3, G4"):
        aligned_labels(cohort(theirs, [0, 1, 2]), {"t": GRADES}, ["t"])


def test_a_class_that_is_declared_and_not_found_is_no_fault() -> None:
    theirs = Endpoint("multiclass", ("b", "a", "odd"))
    found = aligned_labels(cohort(theirs, [0, 1]), {"t": Endpoint("multiclass", ("a", "b", "c"))}, ["t"])
    np.testing.assert_array_equal(found["t"], [1, 0])


def test_a_cohort_without_a_label_is_one_to_predict() -> None:
    slides = cohort(BINARY, [np.nan, np.nan]).slides
    with pytest.raises(DataError, match=r"knows no label of t.*milbench predict"):
        known_tasks("x", slides, ["t"])
    with pytest.raises(DataError, match=r"has none of the run's tasks TP53. Its own: t"):
        evaluated_tasks(["TP53"], replace(cohort(BINARY, [1.0])))


def test_months_that_were_taken_for_days_are_refused_and_longer_follow_up_is_not() -> None:
    days = pd.Series([400.0, -900.0, 1500.0])
    refuse_another_unit("x", "t", days, days * 3)
    with pytest.raises(DataError, match="in another unit"):
        refuse_another_unit("x", "t", days, days / 30)


def test_labels_of_patients_are_described_in_a_few_words() -> None:
    assert described(pd.Series([1.0, 0.0, 0.0, 0.0]), BINARY) == "25.0% positive"
    assert described(pd.Series([0.0, 3.0]), GRADES) == "G1 50%, G2 0%, G3 0%, G4 50%"
    assert described(pd.Series([100.0, -300.0]), Endpoint("survival")) == "50% with event, median time 200 days"
    assert described(pd.Series(dtype=float), BINARY) == "unknown"


def test_the_table_of_both_cohorts_counts_patients_and_not_slides() -> None:
    own = cohort(BINARY, [1.0, 1.0, 0.0, np.nan]).slides.assign(patient_id=["p", "p", "q", "r"])
    table = label_shift({"t": BINARY}, ["t"], own, own.iloc[:2])
    assert list(table.iloc[0]) == ["t", "binary", 2, "50.0% positive", 1, "100.0% positive"]


def test_classes_that_were_guessed_are_told_as_they_are_here_and_in_the_training(tmp_path: Path) -> None:
    def read(words: tuple[str, str]) -> tuple[Finding, ...]:
        rows = "".join(f"p{i},s{i},{words[i % 2]}\n" for i in range(4))
        (tmp_path / "labels.csv").write_text(f"case_id,slide_id,t\n{rows}")
        return read_labels(tmp_path / "labels.csv").findings

    of_training = [*map(str, read(("CIN", "GS"))), "warning: t: 1 patient has contradictory labels on their slides"]
    here = replace(cohort(BINARY, [0.0, 1.0]), findings=read(("GS", "MSI")))
    here.slides["patient_id"] = ["p", "q"]
    warnings = label_warnings(here, here.slides["patient_id"], ["t"], of_training)
    assert [text.split(",")[0] for text in warnings] == [
        "t: GS = 0 (2 slides)",
        "in the training: t: CIN = 0 (2 slides)",
    ]
    assert "MSI = 1" in warnings[0]
    assert "GS = 1" in warnings[1]
    assert not label_warnings(here, here.slides["patient_id"], [], of_training)


def test_slides_of_a_patient_that_contradict_each_other_are_counted_if_the_patient_is_evaluated() -> None:
    here = cohort(BINARY, [0.0, 1.0, 1.0])
    here.slides["patient_id"] = ["p", "p", "q"]
    (warning,) = label_warnings(here, pd.Series(["p", "q"]), ["t"], ())
    assert "t: 1 patient has contradictory labels on their slides" in warning
    assert not label_warnings(here, pd.Series(["q"]), ["t"], ())


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("binary", [1.0, 1.0], "every slide with a label is positive, so there is no AUROC"),
        ("binary", [0.0, 0.0], "every slide with a label is negative, so there is no AUROC"),
        ("binary", [0.0, 1.0], ""),
        ("regression", [2.5, 2.5], "every slide with a label has the same value, so there is no Pearson r"),
        ("survival", [-100.0, -200.0], "no slide had an event, so there is no c-index"),
        ("survival", [-100.0, 200.0], ""),
    ],
)
def test_labels_that_give_no_score_say_why(kind: Kind, values: list[float], expected: str) -> None:
    assert why_no_score(pd.Series(values), Endpoint(kind), "slide") == expected
