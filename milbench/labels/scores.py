"""Scores and times: a column of measured numbers."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd

from milbench.endpoints.endpoint import Endpoint
from milbench.errors import LabelTableError
from milbench.labels.finding import NOTE, WARNING, Finding, some
from milbench.labels.meaning import tells_nothing
from milbench.labels.origin import Origin, quoted
from milbench.labels.spellings import score_in
from milbench.labels.values import LabelColumn, Stated, unknown_cells, unknown_note

THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
"""1,234 is 1.234 where commas are decimal, and 1234 where they part thousands."""

LARGEST = 1e15
"""What no score and no time exceeds: beyond it whole numbers are no longer told apart, and squares soon overflow."""

SKEWED = 2.0
"""Skewness from which on few large values lead the loss; that of an exponential distribution."""


def score_column(origin: Origin, column: pd.Series, stated: Stated) -> LabelColumn:
    """The labels of a regression task: the values themselves.

    Parameters
    ----------
    column : cells; name = task, index = line numbers.

    Raises
    ------
    LabelTableError : a cell is no number, or one that the transform does not take.
    """
    task, transform = str(column.name), stated.of(str(column.name)).transform
    read = numbers(origin, column, stated)
    odd = column[read.values <= -1] if transform == "log1p" else column[:0]
    if len(odd):
        raise LabelTableError(
            f"{origin.holds(odd)}, and `transform: log1p` needs values above -1. Correct it, or delete `transform:`."
        )
    findings = (*read.findings, *_hints(task, read.values, transform))
    return LabelColumn(
        read.values, (_note(task, read.values), *read.notes), findings, Endpoint("regression", transform=transform)
    )


def numbers(origin: Origin, column: pd.Series, stated: Stated) -> LabelColumn:
    """The numbers of a column; NaN where a cell tells none.

    Raises
    ------
    LabelTableError : a cell is text or too large a number, or decimal commas and points stand in one column.
    """
    is_unknown = unknown_cells(column, stated)
    known = column[~is_unknown]
    values = column.where(~is_unknown).map(score_in, na_action="ignore").astype(float)
    odd = known[values[~is_unknown].isna()]
    if len(odd):
        _refuse_text(origin, odd)
    huge = known[values[~is_unknown].abs() > LARGEST]
    if len(huge):
        raise LabelTableError(
            f"{origin.holds(huge)}, and numbers above {LARGEST:g} are no measurements. Correct it, or list it in `unknown:` if it "
            "stands for a gap."
        )
    return LabelColumn(values, unknown_note(str(column.name), column[is_unknown]), _commas(origin, known))


def _refuse_text(origin: Origin, odd: pd.Series) -> None:
    words = list(dict.fromkeys(odd))
    gaps = [word for word in words if tells_nothing(word)]
    advice = f"If nobody knows these values, write `unknown: {quoted(gaps)}` in cohort.yaml, or leave the cells empty."
    counts = some([f"'{word}' ({count})" for word, count in Counter(odd).items()], 5)
    raise LabelTableError(
        f"{origin.path}: column '{origin.column}' holds '{words[0]}' for {origin.at(odd.index[0])}; expected a number. "
        f"Cells that are none: {counts}. {advice if gaps else 'Write numbers there, or leave the cells empty.'}"
    )


def _commas(origin: Origin, known: pd.Series) -> tuple[Finding, ...]:
    """What decimal commas mean, if there are any; raises where points stand beside them."""
    with_comma, with_point = known[known.str.contains(",", regex=False)], known[known.str.contains(".", regex=False)]
    if with_comma.empty:
        return ()
    if len(with_point):
        raise LabelTableError(
            f"{origin.path}: column '{origin.column}' holds '{with_comma.iloc[0]}' (line {with_comma.index[0]}) and "
            f"'{with_point.iloc[0]}' (line {with_point.index[0]}), so commas may be decimal or part thousands. "
            "Write all numbers with decimal points, and nothing between thousands."
        )
    what = f"{known.name}: commas of column '{origin.column}' were read as decimal ones: {with_comma.iloc[0]} is {score_in(with_comma.iloc[0]):g}"
    if all(THOUSANDS.fullmatch(cell) for cell in with_comma):
        return (Finding(WARNING, what, "If they part thousands, delete them from the table.", str(known.name)),)
    return (Finding(NOTE, what, task=str(known.name)),)


def _hints(task: str, values: pd.Series, transform: str) -> tuple[Finding, ...]:
    known = values.dropna()
    if 0 < known.nunique() <= 2:
        what = f"{task}: declared regression and holds {known.nunique()} different value{'s' * (known.nunique() != 1)} only"
        return (Finding(WARNING, what, f"Write `{task}: binary` if these are classes, or leave it out.", task),)
    if transform == "none" and skewness(known.to_numpy()) > SKEWED and known.min() >= 0:
        what = (
            f"{task}: few values are much larger than the others (median {known.median():g}, largest {known.max():g})"
        )
        return (Finding(NOTE, what, f"Consider `{task}: {{kind: regression, transform: log1p}}`.", task),)
    return ()


def skewness(values: np.ndarray) -> float:
    """Third standardised moment of values [n]; 0 if they are all the same."""
    spread = values.std() if len(values) else 0.0
    return float((((values - values.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0


def _note(task: str, values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return f"{task}: regression, no known value"
    return (
        f"{task}: regression, {known.min():g} to {known.max():g}, mean {known.mean():.4g}, SD {known.std(ddof=0):.4g}"
    )
