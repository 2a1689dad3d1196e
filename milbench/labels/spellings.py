"""Spellings: what cells of text are, as numbers and as words, whatever way they are spelt."""

from __future__ import annotations

import math
import re

import pandas as pd

from milbench.labels.meaning import key

UNKNOWN = ("", "nan", "na", "n/a", "#n/a")
"""Cells that tell no label, in any case; what else may tell none is asked about."""

NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?(e[+-]?\d+)?")
SCORE = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?")
"""A measured number, which may also be written .5 or 5. by the instrument's software."""


def number_in(cell: str) -> float | None:
    """The number that a cell is, also with a decimal comma."""
    return float(cell.replace(",", ".")) if NUMBER.fullmatch(cell.lower()) else None


def score_in(cell: str) -> float | None:
    """The measured number that a cell is, also with a decimal comma; None for text and for what overflows."""
    number = float(cell.replace(",", ".")) if SCORE.fullmatch(cell.lower()) else math.inf
    return number if math.isfinite(number) else None


def spellings_of(known: pd.Series, *, as_numbers: bool) -> list[tuple[str, ...]]:
    """The values of a column in their order, each with its spellings."""
    keys = known.map(number_in if as_numbers else key)
    spellings = known.groupby(keys).unique()
    return [tuple(sorted(spellings[value])) for value in sorted(set(keys))]
