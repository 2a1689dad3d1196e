"""Texts: every file of a report that is numbers in text, made from the contents alone and written by nobody here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from milbench.report.contents import Contents
from milbench.report.tables import Table, to_csv, to_latex, to_markdown
from milbench.store.csv_files import spreadsheet_csv

RENDERED: tuple[tuple[str, Callable[[Table], str]], ...] = (("tex", to_latex), ("csv", to_csv), ("md", to_markdown))


def texts_of(every: Sequence[Contents], tables: Sequence[Table]) -> dict[str, str]:
    """Text by the file's place in the report: tables, the numbers behind them, and the paper's numbers beside ours."""
    found = {f"{table.name}.{suffix}": render(table) for table in tables for suffix, render in RENDERED}
    for contents in every:
        found |= _frames(contents)
        if len(contents.beside_paper):
            found["published.csv"] = spreadsheet_csv(contents.beside_paper)
    return {**found, "data/costs.csv": spreadsheet_csv(every[0].costs)}


def _frames(contents: Contents) -> dict[str, str]:
    """Every number behind the tables of one kind, in full precision."""
    analysis = contents.analysis
    frames = {
        "scores": analysis.scores, "tasks": analysis.tasks, "cells": analysis.cells, "against": analysis.against,
        "cohorts": analysis.cohorts, "overall": analysis.overall, "pairs": analysis.pairs,
        "baselines": contents.baselines,
    }  # fmt: skip
    return {
        f"data/{contents.name_of(name)}.csv": spreadsheet_csv(analysis.metric.as_written(frame))
        for name, frame in frames.items()
    }
