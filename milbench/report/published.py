"""The study's printed numbers beside ours: the difference, and whether theirs lies in our interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

from milbench.report.score_tables import interval, number, signed
from milbench.report.tables import Cell, Row, Table

PAPERS_COHORTS = frozenset({"tcga-brca", "tcga-crc", "tcga-gbmlgg", "tcga-luad", "tcga-ucec"})
"""What the paper's average is over; beside an average over anything else it would mislead."""

NOT_LIKE_FOR_LIKE = {
    "tcga-luad": "the genes of the paper's LUAD row differ from the released table's, so it is not like for like"
}


ROUNDING = 0.0005
"""Half of the last digit that the paper prints."""

AVERAGE = "average"


def published() -> pd.DataFrame:
    """Every number of the M4 paper's Tables 2 and 3: table, cohort, model, auroc, source, note, like_for_like."""
    return _printed().copy()


@cache
def _printed() -> pd.DataFrame:
    with files("milbench.report").joinpath("published.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, keep_default_na=False).astype({"auroc": float})
    return table.assign(like_for_like=~table["cohort"].isin(set(NOT_LIKE_FOR_LIKE)))


def printed_difference(table: int, column: str, model: str, others: Sequence[str]) -> float:
    """By how much the paper prints `model` above the best of `others`; NaN where it prints one of them not."""
    rows = _printed()
    column_of = rows[(rows["table"] == table) & (rows["cohort"] == column)].set_index("model")["auroc"]
    if not {model, *others} <= set(column_of.index):
        return math.nan
    return float(column_of[model] - column_of[list(others)].max())


def printed_averages() -> pd.DataFrame:
    """Each printed average beside the mean of the entries that it stands for.

    Returns
    -------
    DataFrame : table, model, printed, of_entries, follows (to half of the last digit), possible (whether entries that
        were rounded to what is printed could have that average).
    """
    rows = _printed()
    entries = rows[rows["cohort"] != AVERAGE].groupby(["table", "model"], sort=False)["auroc"].mean()
    printed = rows[rows["cohort"] == AVERAGE].set_index(["table", "model"])["auroc"]
    found = pd.DataFrame({"printed": printed, "of_entries": entries.reindex(printed.index)}).reset_index()
    off = (found["printed"] - found["of_entries"]).abs()
    return found.assign(follows=off <= ROUNDING + 1e-9, possible=off <= 2 * ROUNDING + 1e-9)


def averages_sentence(table: int, titles: Mapping[str, str]) -> str:
    """The averages of a table that do not follow from its printed entries, in words; empty where all do."""
    rows = printed_averages()
    wrong = [
        f"{titles.get(row.model, row.model)} ({_note(row)})"
        for row in rows[(rows["table"] == table) & ~rows["follows"]].itertuples()
    ]
    return (
        f"Averages of the paper's Table {table} that do not follow from its entries: {', '.join(wrong)}."
        if wrong
        else ""
    )


def _note(row: Any) -> str:
    """What is odd about one row of `printed_averages`."""
    text = f"printed {row.printed:.3f}, its five printed entries average {row.of_entries:.4f}"
    return text + ("; their rounding alone can explain it" if row.possible else "")


def beside_ours(cohorts: pd.DataFrame, overall: pd.DataFrame) -> pd.DataFrame:
    """Every published number that has a counterpart here.

    Returns
    -------
    DataFrame : table, cohort, model, title, published, ours, low, high, difference (ours − published), inside
        (whether the published value lies in our 95 % interval; NaN without one), source, note, difference_low and
        difference_high (our interval less the published value, which counts as exact), like_for_like.
    """
    average = overall.assign(dataset="average", low=overall["low_fixed"], high=overall["high_fixed"])
    average = average if set(cohorts["dataset"]) == PAPERS_COHORTS else average.iloc[:0]
    whole = cohorts[cohorts["n_missing"] == 0]
    ours = pd.concat([whole, average], ignore_index=True).rename(columns={"dataset": "cohort", "score": "ours"})
    both = (
        published()
        .rename(columns={"auroc": "published"})
        .merge(ours[["cohort", "model", "title", "ours", "low", "high"]], on=["cohort", "model"])
    )
    both["difference"] = both["ours"] - both["published"]
    inside = (both["low"] <= both["published"]) & (both["published"] <= both["high"])
    both["inside"] = inside.astype(object).where(both["low"].notna())
    notes = {(row.table, row.model): _note(row) for row in printed_averages().itertuples() if not row.follows}
    both["note"] = [
        NOT_LIKE_FOR_LIKE.get(row.cohort, notes.get((row.table, row.model), "") if row.cohort == AVERAGE else row.note)
        for row in both.itertuples()
    ]
    columns = ["table", "cohort", "model", "title", "published", "ours", "low", "high", "difference", "inside"]
    both["difference_low"], both["difference_high"] = both["low"] - both["published"], both["high"] - both["published"]
    return both[[*columns, "source", "note", "difference_low", "difference_high", "like_for_like"]]


COVERS = (
    "Below a method: the paper's number, then ours − paper with its 95 % interval. It covers our test patients and our "
    "trainings; the paper's number counts as exact, without its own patients, trainings and rounding (0.0005)."
)
BRACKETS = "In brackets: not like for like; the paper's averages contain it."


def with_paper(table: Table, number_of_table: int, both: pd.DataFrame, columns: Sequence[str]) -> Table:
    """The table of our means with a row of the paper's under each method that the paper prints.

    Parameters
    ----------
    both : rows of `beside_ours`.
    columns : the cohort, or "all", of every column.
    """
    mine = both[both["table"] == number_of_table].replace({"cohort": {AVERAGE: "all"}})
    if mine.empty:
        return table
    titles = dict(zip(mine["model"], mine["title"], strict=True))
    by_place = {(row.title, row.cohort): row for row in mine.itertuples()}
    rows: list[Row] = []
    for row in table.rows:
        rows.append(row)
        if row.title in titles.values():
            theirs = tuple(_theirs(by_place.get((row.title, column))) for column in columns)
            rows.append(Row(PAPER, theirs, continues=True))
    notes = [
        COVERS,
        *([BRACKETS] if not mine["like_for_like"].all() else []),
        averages_sentence(number_of_table, titles),
    ]
    numbers = mine.rename(columns={"cohort": "dataset"})[["dataset", "model", *NUMBERS]]
    data = table.data.merge(numbers, on=["dataset", "model"], how="left")
    return replace(table, caption=" ".join([table.caption, *filter(None, notes)]), rows=tuple(rows), data=data)


PAPER = "paper; ours − paper"
NUMBERS = ("published", "difference", "difference_low", "difference_high", "like_for_like")


def _theirs(row: Any) -> Cell:
    if row is None:
        return Cell()
    theirs = number(row.published) if row.like_for_like else f"({number(row.published)})"
    span = interval(row.difference_low, row.difference_high, with_sign=True)
    return Cell(theirs, signed(row.difference) + (f" ({span})" if span else ""))
