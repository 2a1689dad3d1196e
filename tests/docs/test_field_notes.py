"""Field notes: every row has its source, every finding has its row, and measured numbers are those of their files."""

import re
from collections.abc import Iterator

import pandas as pd
from places import ROOT

PAGE = (ROOT / "docs" / "field_notes.md").read_text(encoding="utf-8")
HEAD = ["tool, version", "a good guess", "what it does", "milbench", "source"]
KINDS = ("run", "read")

VERSION = re.compile(r"\b\d+\.\d+(?:\.\d+)?\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7}\b")
NO_TOOL = ("Wilcoxon over five folds", "paired t over five folds with one test set", "ordinal words without a declared order", "TIFF saved at")  # fmt: skip
"""What rows are about that have no version: methods and files."""


def rows() -> Iterator[list[str]]:
    for line in PAGE.splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_table_has_the_same_columns_and_no_cell_is_empty() -> None:
    assert len([row for row in rows() if row == HEAD]) == len(re.findall(r"^## ", PAGE, re.MULTILINE))
    assert [row for row in rows() if len(row) != len(HEAD) or not all(row)] == []


def test_every_source_is_a_file_that_is_there_or_says_how_it_was_seen() -> None:
    sources = [row[-1] for row in rows() if row != HEAD]
    files = [source.strip("`") for source in sources if source not in KINDS]
    assert [name for name in files if not (ROOT / name).is_file()] == []


def tools(cell: str) -> set[str]:
    """Words of a cell that could name a tool."""
    return set(re.findall(r"[A-Za-z][\w-]+", cell))


def test_every_row_names_a_version_or_a_tool_whose_version_another_row_names() -> None:
    listed = [row for row in rows() if row != HEAD]
    known = {name for first, *_ in listed for name in re.findall(rf"([A-Za-z][\w-]+)'?s? (?:{VERSION.pattern})", first)}
    known |= {
        name for _, _, does, *_ in listed for name in re.findall(rf"([A-Za-z][\w-]+) (?:{VERSION.pattern})", does)
    }
    without = [
        first
        for first, _, does, *_ in listed
        if not VERSION.search(first + does) and not tools(first + " " + does) & known and not first.startswith(("the same", *NO_TOOL))
    ]  # fmt: skip
    assert without == []


def test_versions_and_numbers_of_a_finding_are_those_of_its_script() -> None:
    found = [row for row in rows() if row[-1].startswith("`findings/")]
    assert len(found) == len(list((ROOT / "findings").glob("*.sh")))
    for first, _, does, _, source in found:
        script = (ROOT / source.strip("`")).read_text(encoding="utf-8")
        (versions,) = re.findall(r"^# Versions +(.*)$", script, re.MULTILINE)
        missing = [version for version in VERSION.findall(first) if version not in versions]
        missing += [number for number in re.findall(r"\b\d[\d.,]*\b", does) if number not in script]
        assert missing == [], source


def test_every_finding_stands_on_the_page() -> None:
    assert [path.name for path in (ROOT / "findings").glob("*.sh") if path.name not in PAGE] == []


def test_the_shares_of_rejected_nulls_are_those_of_the_file() -> None:
    table = pd.read_csv(ROOT / "benchmarks" / "results" / "statistics_coverage.csv")
    equal = table[table["difference"] == 0]
    shown = {
        name: f"{equal[name].min():.0%} to {equal[name].max():.0%}".replace("%", "", 1).replace("%", " %")
        for name in ("paired t over folds", "rejected")
    }
    assert f"rejects {shown['paired t over folds']}" in PAGE
    assert f"in the same settings: {shown['rejected']}" in PAGE
