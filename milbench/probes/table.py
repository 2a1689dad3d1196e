"""Table: verdicts as rows of a CSV file, and the file of them that milbench ships. No torch here.

`benchmarks/what_models_learn.py` makes the shipped file, `results.csv`, of all models that come with milbench.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever only reads needs no test, and none of its models
    from milbench.probes.verdict import Verdict

COLUMNS = (
    "model", "model_title", "version", "test", "title", "verdict", "auroc", "low", "high", "best", "seeds", "seconds",
    "sentence",
)  # fmt: skip

Row = dict[str, str]


def row_of(model: str, model_title: str, version: int, verdict: Verdict) -> Row:
    """One row: a model and a test."""
    values = {"model": model, "model_title": model_title, "version": version, **verdict._asdict()}
    return {name: _text(name, values[name]) for name in COLUMNS}


def _text(name: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1f}" if name == "seconds" else f"{value:.4f}"


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as CSV."""
    import pandas as pd  # whoever only reads need not wait for it

    from milbench.store.csv_files import spreadsheet_csv

    path.write_text(spreadsheet_csv(pd.DataFrame(list(rows), columns=list(COLUMNS))), encoding="utf-8", newline="")


def read_rows(text: str) -> list[Row]:
    """Rows of the text of a CSV file."""
    return list(csv.DictReader(text.splitlines()))


@cache
def shipped_rows() -> tuple[Row, ...]:
    """Rows of the file that milbench ships."""
    return tuple(read_rows(files("milbench.probes").joinpath("results.csv").read_text(encoding="utf-8")))


def results_of(model: str) -> list[tuple[str, str, str]]:
    """Title, verdict and sentence of each test of one of milbench's models; empty if it was not tested."""
    return [(row["title"], row["verdict"], row["sentence"]) for row in shipped_rows() if row["model"] == model]
