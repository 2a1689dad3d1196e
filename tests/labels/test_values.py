"""One column: numbers by their value, words by their meaning, gaps asked about, real tables as they are."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from places import SHARED

from milbench.errors import LabelTableError
from milbench.labels.origin import Origin
from milbench.labels.values import LabelColumn, Stated, label_column


def column(*cells: str, stated: Stated | None = None) -> LabelColumn:
    ids = pd.Series([f"s{row}" for row in range(len(cells))])
    origin = Origin(Path("l.csv"), "A", ids, "slide")
    return label_column(origin, pd.Series(cells, name="A", dtype=object), stated)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("9", "10"),
        ("0.25", "0.75"),
        ("2", "10"),
        ("-5", "3"),
        ("1e-3", "5e-4")[::-1],
        ("0,25", "0,75"),
        ("1.50", "10"),
        ("+2", "+11"),
    ],
)
def test_two_numbers_are_ordered_by_their_value(low: str, high: str) -> None:
    result = column(high, low, "", high)
    np.testing.assert_array_equal(result.values, [1, 0, np.nan, 1])
    assert f"A: {low} = 0 (1 slide), {high} = 1 (2 slides), in the order of the numbers" in result.findings[0].what


@pytest.mark.parametrize("cells", [("0", "1"), ("0.0", "1.0"), ("1", "0.00"), ("1", "1"), ("0", ""), ("00", "01")])
def test_0_and_1_are_themselves_and_no_guess(cells: tuple[str, ...]) -> None:
    result = column(*cells)
    np.testing.assert_array_equal(result.values, [float(cell) if cell else np.nan for cell in cells])
    assert result.findings == ()


def test_spellings_of_one_word_are_one_class() -> None:
    result = column("Positive", "positive", "negative", "NEGATIVE ", "Negative")
    assert result.values.tolist() == [1, 1, 0, 0, 0]
    assert "Positive or positive = 1 (2 slides)" in result.findings[0].what
    with pytest.raises(LabelTableError, match="it holds Positive, positive"):
        column("Positive", "positive")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ("positive", "Not Reported"),
            r"'Not Reported' for 1 slides \(first in line 1, slide s1\) beside positive \(1\)",
        ),
        (("0", "1", "Unknown", "Unknown"), r"'Unknown' for 2 slides .* beside 0 \(1\), 1 \(1\)"),
        (("wt", "mut", "NE", "Indeterminate"), r"'Indeterminate' for 1 slides, 'NE' for 1 slides"),
        (("Unknown", "Unknown"), "beside nothing else"),
        (("-", "mutated"), r"'-' for 1 slides .*`unknown: \[\"-\"\]` in cohort.yaml"),
    ],
)
def test_words_that_tell_no_label_are_asked_about(cells: tuple[str, ...], message: str) -> None:
    with pytest.raises(LabelTableError, match=message):
        column(*cells)


def test_what_is_stated_to_be_unknown_is() -> None:
    result = column("wt", "mut", "NE", stated=Stated(unknown=("ne",)))
    np.testing.assert_array_equal(result.values, [0, 1, np.nan])
    assert result.notes == ("A: 1 labels are unknown (1 'NE')",)


@pytest.mark.parametrize(
    ("cells", "positive", "expected"),
    [
        (("wt", "mut"), "WT", [1, 0]),
        (("1", "2"), "2", [0, 1]),
        (("1", "2"), "1", [1, 0]),
        (("0", "1"), "0", [1, 0]),
        (("9.0", "10"), "9", [1, 0]),
        (("Left", "Right"), "Left", [1, 0]),
        (("Known", "Unknown"), "Known", None),
        (("Known", "Unknown"), "Unknown", [0, 1]),
    ],
)
def test_what_is_stated_is_no_guess(cells: tuple[str, ...], positive: str, expected: list[int] | None) -> None:
    stated = Stated(positive={"A": positive})
    if expected is None:
        with pytest.raises(LabelTableError, match="'Unknown' for 1 slides"):
            column(*cells, stated=stated)
        return
    result = column(*cells, stated=stated)
    assert result.values.tolist() == expected
    assert result.findings == ()
    assert "as `positive:` says" in result.notes[-1]


def real_columns() -> list[tuple[str, list[str]]]:
    """Columns of two values, or of two beside gaps, of public tables."""
    found = []
    for path in sorted((SHARED / "endpoints" / "data").glob("*.csv.gz")):
        with gzip.open(path, "rt") as file:
            rows = list(csv.reader(file))
        for place, name in enumerate(rows[0]):
            cells = [row[place] for row in rows[1:]]
            if len(set(cells) - {""}) == 2:
                found.append((f"{path.name}: {name}", cells))
    return found


EXPECTED = {
    "er_status": ("negative", "positive"), "ER_Status_By_IHC": ("negative", "positive"), "ER+/HER2-": ("False", "True"),
    "race": ("Non-Black", "Black"), "side": ("Left", "Right"), "gender": ("FEMALE", "MALE"), "rorp_2class": ("high", "low/med"),
    "brs_class": ("Braf-like", "Ras-like"), "subtype": ("adenocarcinoma", "squamous"), "grade": ("G2", "G3"),
}  # fmt: skip


@pytest.mark.realdata
@pytest.mark.skipif(not (SHARED / "endpoints" / "data").exists(), reason="the data are not beside the checkout")
def test_public_tables_are_read_as_they_are_meant() -> None:
    seen = set()
    for where, cells in real_columns():
        name = where.split(": ")[1]
        result = column(*cells)
        known = {float(cell) for cell in cells if cell} if name not in EXPECTED else set()
        if name in EXPECTED:
            seen.add(name)
            negative, positive = EXPECTED[name]
            expected = [{negative: 0.0, positive: 1.0}.get(cell, np.nan) for cell in cells]
            np.testing.assert_array_equal(result.values, expected, err_msg=where)
            assert len(result.findings) == 1
        else:
            assert known == {0, 1}, where
            assert result.findings == ()
    assert seen == set(EXPECTED)
