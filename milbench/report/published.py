"""The study's printed numbers beside ours: the difference, and whether theirs lies in our interval."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from milbench.report.score_tables import interval, number
from milbench.report.tables import Cell, Row, Table

PAPERS_COHORTS = frozenset({"tcga-brca", "tcga-crc", "tcga-gbmlgg", "tcga-luad", "tcga-ucec"})
"""What the paper's average is over; beside an average over anything else it would mislead."""

NOT_LIKE_FOR_LIKE = {
    "tcga-luad": "the genes of the paper's LUAD row differ from the released table's, so it is not like for like"
}


def published() -> pd.DataFrame:
    """Numbers printed in the M4 paper that could be traced to it: table, cohort, model, auroc, source, note."""
    with files("milbench.report").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False).astype({"auroc": float})


def beside_ours(cohorts: pd.DataFrame, overall: pd.DataFrame) -> pd.DataFrame:
    """Every published number that has a counterpart here.

    Returns
    -------
    DataFrame : table, cohort, model, title, published, ours, low, high, difference (ours − published), inside
        (whether the published value lies in our 95 % interval; NaN without one), source, note.
    """
    average = overall.assign(dataset="average", low=overall["low_fixed"], high=overall["high_fixed"])
    average = average if set(cohorts["dataset"]) == PAPERS_COHORTS else average.iloc[:0]
    whole = cohorts[cohorts["n_missing"] == 0]
    ours = pd.concat([whole, average], ignore_index=True).rename(columns={"dataset": "cohort", "auroc": "ours"})
    both = (
        published()
        .rename(columns={"auroc": "published"})
        .merge(ours[["cohort", "model", "title", "ours", "low", "high"]], on=["cohort", "model"])
    )
    both["difference"] = both["ours"] - both["published"]
    inside = (both["low"] <= both["published"]) & (both["published"] <= both["high"])
    both["inside"] = inside.astype(object).where(both["low"].notna())
    both["note"] = [
        "; ".join(filter(None, [row.note, NOT_LIKE_FOR_LIKE.get(row.cohort, "")])) for row in both.itertuples()
    ]
    columns = ["table", "cohort", "model", "title", "published", "ours", "low", "high", "difference", "inside"]
    return both[[*columns, "source", "note"]]


def published_table(cohorts: pd.DataFrame, overall: pd.DataFrame, caption: str) -> Table | None:
    """The published numbers beside ours as a table; None where none has a counterpart."""
    both = beside_ours(cohorts, overall)
    if both.empty:
        return None
    rows = [
        Row(f"Table {row.table}, {row.cohort}, {row.title}", (
            Cell(number(row.published)), Cell(number(row.ours), interval(row.low, row.high)),
            Cell(f"{row.difference:+.3f}"), Cell({True: "yes", False: "no"}.get(row.inside, "–")),
        ))
        for row in both.itertuples()
    ]  # fmt: skip
    notes = " ".join(f"{text[0].upper()}{text[1:]}." for text in dict.fromkeys(filter(None, both["note"])))
    columns = ("published", "ours", "difference", "published inside our interval")
    return Table("published", f"{caption} {notes}".strip(), "Number of the paper", columns, tuple(rows), both)
