"""Ids that another program spelled otherwise are known again, and nothing else is."""

import unicodedata

import pytest

from milbench.splits.spelling import respelled

UMLAUT = "Zürich-1"


@pytest.mark.parametrize(
    ("name", "known", "reason"),
    [
        ("10126.0", "10126", "end in .0"),
        (unicodedata.normalize("NFD", UMLAUT), UMLAUT, "other code points"),
        (UMLAUT, unicodedata.normalize("NFD", UMLAUT), "other code points"),
        ("s01.svs", "s01", "are file names"),
        ("/data/uni/TCGA-3C.F6E9.pt", "TCGA-3C.F6E9", "are file names"),
        ("D:\\slides\\s01.ndpi", "s01", "are file names"),
    ],
)
def test_an_id_in_another_spelling_is_known_with_its_reason(name: str, known: str, reason: str) -> None:
    meant, notes = respelled([name, name], [known])
    assert meant == {name: known}
    assert reason in notes[0]
    assert f"'{name}' is read as '{known}'" in notes[0]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("s01", "s01"),
        ("10126.5", "10126"),
        ("p1.2", "p1"),
        ("007.0", "7"),
        ("s1.0", "s1"),
        ("S01", "s01"),
        ("a.b", "a"),
    ],
)
def test_an_id_that_is_known_or_another_one_is_left_alone(name: str, known: str) -> None:
    assert respelled([name], [known]) == ({}, [])


def test_the_id_as_it_stands_goes_first() -> None:
    assert respelled(["7.0", "7"], ["7.0", "7"]) == ({}, [])
    both = [UMLAUT, unicodedata.normalize("NFD", UMLAUT)]
    assert respelled(both, both) == ({}, [])
