"""A table between two marks of a page: replaced when its numbers are made anew, else held against them."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd


class MarkedTable(NamedTuple):
    """Where the committed numbers of a script lie, and where the page shows them.

    Attributes
    ----------
    script : file name in this folder; it stands in the mark above the table.
    result : CSV file of the numbers.
    """

    script: str
    page: Path
    result: Path

    def on(self, page: str, text: str) -> str:
        """The page with `text` between the marks.

        Raises
        ------
        SystemExit : the marks do not stand on the page once.
        """
        begin, end = f"<!-- begin benchmarks/{self.script} -->\n", f"<!-- end benchmarks/{self.script} -->"
        marks = re.compile(f"({re.escape(begin)}).*?({re.escape(end)})", re.DOTALL)
        replaced, count = marks.subn(lambda found: f"{found[1]}{text}\n{found[2]}", page)
        if count != 1:
            raise SystemExit(f"the marks of {self.script} stand {count} times in {self.page.name}; expected once")
        return replaced


def main(
    about: str, place: MarkedTable, measured: Callable[[Path], pd.DataFrame], table: Callable[[pd.DataFrame], str]
) -> None:
    """Check the page against the committed numbers, or make both anew."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="run the models, and write their numbers")
    parser.add_argument("--folder", type=Path, help="where cohorts and runs lie (default: a folder that is deleted)")
    options = parser.parse_args()
    if options.write:
        with tempfile.TemporaryDirectory() as temporary:
            rows = measured(options.folder or Path(temporary))
        rows.to_csv(place.result, index=False, float_format="%.5f", lineterminator="\n")
    page, text = place.page.read_text(encoding="utf-8"), table(pd.read_csv(place.result))
    print(text)
    if options.write:
        place.page.write_text(place.on(page, text), encoding="utf-8")
    elif place.on(page, text) != page:
        raise SystemExit(f"{place.page} says other numbers. python benchmarks/{place.script} --write makes them anew")
