"""Tables between marks: the rest of the page stays, and a page without its marks is refused."""

from pathlib import Path

import pytest
from marked_table import MarkedTable

PLACE = MarkedTable("one.py", Path("page.md"), Path("one.csv"))
PAGE = "before\n<!-- begin benchmarks/one.py -->\nold\n<!-- end benchmarks/one.py -->\nafter\n"


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    assert PLACE.on(PAGE, "new") == PAGE.replace("old", "new")
    assert PLACE.on(PLACE.on(PAGE, r"\1 | new"), "old") == PAGE


@pytest.mark.parametrize("page", ["no marks\n", PAGE + PAGE])
def test_a_page_whose_marks_do_not_stand_there_once_is_refused(page: str) -> None:
    with pytest.raises(SystemExit, match="expected once"):
        PLACE.on(page, "new")
