"""Two words as classes: which is positive, and which words are no class."""

import itertools
import unicodedata

import pytest

from milbench.labels.meaning import PAIRS, negative_and_positive, tells_nothing


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("-", "+"), ("\u2212", "+"), ("negative", "positive"), ("Negative", "POSITIVE"), ("neg", "pos"), ("WT", "MUT"),
        ("wild type", "mutated"), ("wildtype", "mutant"), ("Wild-Type", "Mutated"), ("wild_type", "mut"), ("absent", "present"),
        ("low", "high"), ("Low", "High"), ("no", "yes"), ("N", "Y"), ("nein", "ja"), ("Non", "Oui"), ("no", "sí"), ("não", "sim"),
        ("нет", "да"), ("否", "是"), ("阴性", "阳性"), ("nie", "tak"), ("ne", "ano"), ("False", "True"), ("ER-", "ER+"),
        ("HER2-", "HER2+"), ("ER negative", "ER positive"), ("N_TP53", "Y_TP53"), ("nonMSIH", "MSIH"), ("non-responder", "responder"),
        ("NR", "R"), ("not amplified", "amplified"), ("Non-Black", "Black"), ("unmethylated", "methylated"), ("MSS", "MSI-H"),
        ("MSI-L", "MSI-H"), ("pMMR", "dMMR"), ("0:LIVING", "1:DECEASED"), ("without recurrence", "with recurrence"),
        ("high wild-type", "high mutated"), ("nicht vorhanden", "vorhanden"), ("niedrig", "hoch"), ("négatif", "positif"),
        ("none", "present"), ("benign", "malignant"), ("normal", "tumor"),
    ],
)  # fmt: skip
def test_words_tell_which_is_positive_in_either_order_and_any_encoding(negative: str, positive: str) -> None:
    assert negative_and_positive((negative, positive)) == (negative, positive)
    assert negative_and_positive((positive, negative)) == (negative, positive)
    decomposed = unicodedata.normalize("NFD", negative), unicodedata.normalize("NFD", positive)
    assert negative_and_positive(decomposed) == decomposed


@pytest.mark.parametrize(
    "words",
    [
        ("Left", "Right"), ("MALE", "FEMALE"), ("G2", "G3"), ("adenocarcinoma", "squamous"), ("Braf-like", "Ras-like"),
        ("low/med", "high"), ("a", "b"), ("stage i", "stage ii"), ("LumA", "LumB"), ("no", "low"), ("-", "mutated"),
    ],
)  # fmt: skip
def test_words_that_do_not_tell_are_left_alone(words: tuple[str, str]) -> None:
    assert negative_and_positive(words) is None


def test_no_pair_contradicts_another() -> None:
    listed = [
        (negative.strip(), positive.strip())
        for left, right in PAIRS
        for negative, positive in itertools.product(left.split("|"), right.split("|"))
    ]
    assert len(listed) > 200
    for negative, positive in listed:
        assert negative_and_positive((negative, positive)) == (negative, positive)
        assert negative_and_positive((positive, negative)) == (negative, positive)


@pytest.mark.parametrize(
    "word",
    [
        "Not Reported", "Unknown", "Indeterminate", "NE", "not_reported", "NOT-REPORTED", "[Not Available]", "'--", "--", "-", "?",
        "Equivocal", "inconclusive", "N/A ", "unbekannt", "未知", "none", "None", "NULL", "Not Evaluable", "missing", "n.e.", "<NA>",
    ],
)  # fmt: skip
def test_words_that_say_that_nobody_knows_are_no_class(word: str) -> None:
    assert tells_nothing(word)


@pytest.mark.parametrize(
    "word", ["negative", "no", "wt", "0", "1", "nein", "+", "low", "N", "other", "nonMSIH", "normal"]
)
def test_a_class_is_not_taken_for_a_gap(word: str) -> None:
    assert not tells_nothing(word)
