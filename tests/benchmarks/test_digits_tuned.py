"""The first tables of docs/digits.md are those of the committed runs."""

import pandas as pd
from digits_tuned import PLACE, tables


def test_the_page_says_what_was_measured() -> None:
    page = PLACE.page.read_text(encoding="utf-8")
    assert PLACE.on(page, tables(pd.read_csv(PLACE.result))) == page
