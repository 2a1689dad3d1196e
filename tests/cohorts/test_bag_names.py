"""Bag names: the words for cohorts of slides, of patients and of both."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from milbench.cohorts.bag_names import PATIENT, SLIDE, told_of
from milbench.report.kinds import EITHER, bag_of, metric_note

OF_PATIENTS = {"slides_of": {"p1": ["s1", "s2"]}}


@pytest.mark.parametrize(
    ("datasets", "bag"),
    [
        ([{}], SLIDE),
        ([OF_PATIENTS], PATIENT),
        ([OF_PATIENTS, OF_PATIENTS], PATIENT),
        ([{}, OF_PATIENTS], EITHER),
        ([], SLIDE),
    ],
)
def test_a_bag_is_called_by_what_it_is_in_all_cohorts(datasets: list[dict[str, object]], bag: str) -> None:
    assert bag_of(datasets) == bag


def test_whole_words_alone_are_replaced() -> None:
    assert told_of(EITHER, "slides, a slide and a slideflow file") == "bags, a bag and a slideflow file"


def test_a_patients_risk_is_a_mean_over_slides_only_where_bags_are_slides() -> None:
    notes = {bag: metric_note("survival", bag) for bag in (SLIDE, PATIENT, EITHER)}
    assert len(set(notes.values())) == 3
    assert "mean over the slides" in notes[SLIDE]
    assert "mean" not in notes[PATIENT]
    assert "where bags are slides" in notes[EITHER]
    assert metric_note("ordinal", PATIENT) == metric_note("ordinal", SLIDE)


def test_no_script_of_the_page_writes_slides_whatever_a_bag_is() -> None:
    scripts = [path for path in files("milbench.report.html").joinpath("assets").iterdir() if path.name.endswith(".js")]
    assert len(scripts) > 5
    for script in scripts:
        code = re.sub(r"//[^\n]*", "", script.read_text(encoding="utf-8"))
        code = re.sub(r'ofBags\("[^"]*"\)', "", code).replace('=== "slide"', "")
        assert [text for text in re.findall(r'"[^"\n]*"|`[^`\n]*`', code) if re.search(r"\bslides?\b", text)] == []
