"""Facts of the study's label tables, and the page that lists them."""

import pytest
from places import ROOT, SHARED
from study_facts import RESULT, facts

TABLES = SHARED / "data" / "tcga_labels"
COMMITTED = RESULT.read_text(encoding="utf-8")


@pytest.mark.realdata
@pytest.mark.skipif(not TABLES.exists(), reason="the label tables are not beside the checkout")
def test_the_committed_facts_are_those_of_the_tables() -> None:
    assert facts(TABLES) == COMMITTED


@pytest.mark.parametrize(
    "head", ["| cohort | slides | patients | genes, by slides mutated |", "| cohort | slides with features | MB |"]
)
def test_the_page_shows_the_rows_of_the_file(head: str) -> None:
    page = (ROOT / "docs" / "tcga.md").read_text(encoding="utf-8")
    assert rows_below(head, page) == rows_below(head, COMMITTED)
    assert len(rows_below(head, page)) == 5


def rows_below(head: str, text: str) -> list[str]:
    table = text.partition(f"{head}\n")[2].partition("\n\n")[0].partition("\n<!--")[0]
    return table.splitlines()[1:]
