"""The paper's printed numbers: all of them, their source, their own arithmetic, and their place beside ours."""

import math

import pandas as pd
import pytest

from milbench.report.published import (
    NOT_LIKE_FOR_LIKE,
    PAPER,
    averages_sentence,
    beside_ours,
    printed_averages,
    printed_difference,
    published,
    with_paper,
)
from milbench.report.score_tables import model_table
from milbench.report.tables import Table, to_latex, to_markdown

COHORTS = ("tcga-brca", "tcga-crc", "tcga-gbmlgg", "tcga-luad", "tcga-ucec")


def test_every_number_of_tables_2_and_3_is_there_once_with_its_table_row_and_column() -> None:
    table = published()
    assert table.groupby("table").size().to_dict() == {2: 42, 3: 24}
    assert not table.duplicated(["table", "cohort", "model"]).any()
    assert not table["source"].duplicated().any(), "each number has a place of its own"
    assert table["source"].str.match(r"Li et al., arXiv:2407\.17267, Table [23], row .+, column .+").all()


def test_rows_that_both_tables_print_agree() -> None:
    table = published()
    both = table[table["model"].isin(["amil", "m4"])].pivot(index=["model", "cohort"], columns="table", values="auroc")
    assert (both[2] == both[3]).all()


def test_the_averages_that_do_not_follow_from_the_printed_entries_are_amils_and_no_other() -> None:
    rows = printed_averages()
    wrong = rows[~rows["follows"]]
    assert list(zip(wrong["table"], wrong["model"], strict=True)) == [(2, "amil"), (3, "amil")]
    assert wrong["of_entries"].tolist() == pytest.approx([0.6366, 0.6366])
    assert wrong["possible"].all(), "entries that were rounded can have that average"
    assert "AMIL (printed 0.636, its five printed entries average 0.6366" in averages_sentence(2, {"amil": "AMIL"})


def test_a_difference_that_the_paper_prints_is_that_from_the_best_of_the_others() -> None:
    assert printed_difference(2, "tcga-gbmlgg", "m4", ["amil", "max_pooling"]) == pytest.approx(0.756 - 0.747)
    assert math.isnan(printed_difference(2, "tcga-gbmlgg", "m4", ["mmoe_amil"])), "Table 2 has no such row"


def ours(auroc: float = 0.7) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means of AMIL and M4 on the five cohorts, 0.05 around which an interval stands, and over all."""
    rows = [
        {"dataset": name, "model": model, "title": title, "score": auroc, "sd": 0.01, "low": auroc - 0.05,
         "high": auroc + 0.05, "n_missing": 0, "n_cells": 9}
        for name in COHORTS
        for model, title in (("amil", "AMIL"), ("m4", "M4"))
    ]  # fmt: skip
    cohorts = pd.DataFrame(rows)
    overall = cohorts.iloc[:2].drop(columns=["dataset", "n_missing", "n_cells"])
    return cohorts, overall.assign(low_fixed=overall["low"], high_fixed=overall["high"])


def beside(number: int) -> Table:
    cohorts, overall = ours()
    nothing = pd.DataFrame({"dataset": [], "task": [], "name": [], "score": []})
    table = model_table("t", "Caption.", cohorts, overall, {name: name.upper() for name in COHORTS}, {}, nothing)
    return with_paper(table, number, beside_ours(cohorts, overall), [*COHORTS, "all"])


def test_under_each_method_stand_the_papers_number_and_the_difference_with_its_interval() -> None:
    table = beside(2)
    assert [row.title for row in table.rows] == ["AMIL", PAPER, "M4", PAPER]
    cells = dict(zip(table.columns, table.rows[3].cells, strict=True))
    assert (cells["TCGA-GBMLGG"].text, cells["TCGA-GBMLGG"].below) == ("0.756", "−0.056 (−0.106 to −0.006)")
    assert (cells["Average"].text, cells["Average"].below) == ("0.677", "+0.023 (−0.027 to +0.073)")
    assert "counts as exact" in table.caption
    assert r"\tiny $-$0.056 ($-$0.106 to $-$0.006)" in to_latex(table)


def test_luads_numbers_stand_in_brackets_and_the_caption_says_why() -> None:
    table = beside(2)
    cells = dict(zip(table.columns, table.rows[3].cells, strict=True))
    assert cells["TCGA-LUAD"].text == "(0.588)"
    assert "In brackets: not like for like" in to_markdown(table)
    assert not published().set_index("cohort").loc[list(NOT_LIKE_FOR_LIKE), "like_for_like"].any()


def test_the_csv_holds_ours_theirs_and_the_difference_in_full() -> None:
    data = beside(3).data.set_index(["dataset", "model"])
    assert data.loc[("tcga-crc", "m4"), "published"] == 0.682
    assert data.loc[("tcga-crc", "m4"), "difference_low"] == pytest.approx(0.65 - 0.682)
    assert data.loc[("all", "m4"), "published"] == 0.677
    assert not data.loc[("tcga-luad", "m4"), "like_for_like"]


def test_a_cohort_that_the_paper_does_not_have_leaves_the_table_as_it_is() -> None:
    cohorts, overall = ours()
    own = cohorts.assign(dataset="digits")
    nothing = pd.DataFrame({"dataset": [], "task": [], "name": [], "score": []})
    table = model_table("t", "Caption.", own, overall, {"digits": "Digits"}, {}, nothing)
    assert with_paper(table, 2, beside_ours(own, overall), ["digits"]) is table
