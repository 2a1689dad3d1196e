"""Difference: one thing in a bundle that is not as it should be, with its place."""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """What was found, and what was expected there.

    Attributes
    ----------
    file : in the bundle, with forward slashes.
    what : the whole sentence, or for a number what was found and recomputed.
    row, column : place of a number in the file; "" if the difference is of the file as a whole.
    """

    file: str
    what: str
    row: str = ""
    column: str = ""

    @property
    def text(self) -> str:
        """The difference as a line.

        >>> Difference("report/table2.csv", "0.9 found, 0.8 recomputed", "3", "auroc").text
        'report/table2.csv, row 3, column auroc: 0.9 found, 0.8 recomputed'
        """
        place = "".join(f", {name} {value}" for name, value in (("row", self.row), ("column", self.column)) if value)
        return f"{self.file}{place}: {self.what}"


def number_difference(file: str, row: str, column: str, found: str, recomputed: str) -> Difference:
    """A cell that is not what the predictions give."""
    return Difference(file, f"{_said(found)} found, {_said(recomputed)} recomputed", row, column)


def _said(cell: str) -> str:
    return cell[:60] if cell else "nothing"
