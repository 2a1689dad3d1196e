"""Suggestions: kinds guessed from names and cells, events and censoring by name alone, and what is pasted reads back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from label_tables import labels_of, real_table, rows

from milbench.errors import LabelTableError
from milbench.labels import suggested_tasks
from milbench.labels.suggestion import flow, in_order, plain, survivals


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("os_days", "os_event"), ("os", "os_days", "os_event", False, "days")),
        (("OS.time", "OS"), ("os", "OS.time", "OS", False, "")),
        (("PFI", "PFI.time"), ("pfi", "PFI.time", "PFI", False, "")),
        (("OS_MONTHS", "OS_STATUS"), ("os", "OS_MONTHS", "OS_STATUS", False, "months")),
        (("dfs_months", "dfs_status"), ("dfs", "dfs_months", "dfs_status", False, "months")),
        (("survival_months", "censorship"), ("survival", "survival_months", "censorship", True, "months")),
        (("recurrence_event_censored_10_years", "recurrence_years_censored_10_years"),
         ("recurrence_10", "recurrence_years_censored_10_years", "recurrence_event_censored_10_years", False, "years")),
        (("osTime", "osCensored"), ("os", "osTime", "osCensored", True, "")),
    ],
)  # fmt: skip
def test_columns_of_a_survival_task_are_told_by_their_names(
    columns: tuple[str, ...], expected: tuple[Any, ...]
) -> None:
    assert survivals(columns) == [expected]


@pytest.mark.parametrize("columns", [("age_years", "grade"), ("os_days", "pfi_event"), ("event", "grade"), ("days",)])
def test_other_columns_are_no_survival_task(columns: tuple[str, ...]) -> None:
    assert survivals(columns) == []


@pytest.mark.parametrize(
    ("words", "order"),
    [
        (["G3", "G1", "G2"], ["G1", "G2", "G3"]),
        (["Stage IV", "Stage IIA", "Stage I", "Stage IIB"], ["Stage I", "Stage IIA", "Stage IIB", "Stage IV"]),
        (["high", "Low", "medium"], ["Low", "medium", "high"]),
        (["CIN", "MSI", "GS"], []),
        (["CMS1", "CMS2", "CMS3"], []),
        (["G1", "G2", "High Grade"], []),
    ],
)
def test_grades_say_their_order_or_none(words: list[str], order: list[str]) -> None:
    assert in_order(words) == order


@pytest.mark.parametrize("word", ["yes", "1", "a: b", "Stage IIA", "é", "#", "null", "[x]", "-", "3.0", "ER+/HER2-"])
def test_what_is_suggested_is_read_back_by_yaml(word: str) -> None:
    said = {"kind": "ordinal", "classes": [word, "b", "c"]}
    assert yaml.safe_load(f"{{{flow('my task', said)}}}") == {"my task": said}
    assert yaml.safe_load(f"{plain(word)}: x") == {word: "x"}


@pytest.mark.parametrize(
    ("column", "cells", "message"),
    [
        ("msi", ["MSS", "MSI-L", "MSI-H"], r"`tasks: \{msi: \{kind: multiclass\}, ...\}`; if they are grades"),
        (
            "grade",
            ["G1", "G2", "G3"],
            r"If it is a grade, write `tasks: \{grade: \{kind: ordinal, classes: \[G1, G2, G3\]\}",
        ),
        ("hrd", [f"{n}.5" for n in range(30)], r"If it is a score, write `tasks: \{hrd: \{kind: regression\}"),
        ("isup", ["1", "2", "3"], r"tasks: \{isup: \{kind: ordinal, classes: \[\"1\", \"2\", \"3\"\]\}"),
    ],
)
def test_a_binary_column_of_more_than_two_values_suggests_its_kind(
    tmp_path: Path, column: str, cells: list[str], message: str
) -> None:
    with pytest.raises(LabelTableError, match=message):
        labels_of(tmp_path, rows(column, *cells), [column])


def test_a_binary_column_of_times_suggests_survival(tmp_path: Path) -> None:
    suggestion = r"write `tasks: \{os: \{kind: survival, time: OS.time, event: OS, unit: days\}, ...\}`"
    with pytest.raises(LabelTableError, match=suggestion):
        labels_of(tmp_path, rows("OS.time,OS", "10,1", "20,0", "30,0"), ["OS", "OS.time"])


def test_binary_columns_alone_need_no_suggestion(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(rows("A,B", "1,wt", "0,mut"))
    assert suggested_tasks(tmp_path / "l.csv") == {}


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["brca", "crc", "gbmlgg", "luad", "ucec"])
def test_what_is_suggested_of_a_real_table_reads_it(tmp_path: Path, name: str) -> None:
    text = real_table(f"m4_{name}_endpoints")
    (tmp_path / "l.csv").write_text(text)
    said = suggested_tasks(tmp_path / "l.csv")
    for task in ("os", "dss", "dfi", "pfi"):
        assert said[task] == {"kind": "survival", "time": f"{task}_days", "event": f"{task}_event", "unit": "days"}
    assert said["age"] == {"kind": "regression"}
    read = labels_of(tmp_path, text, said)
    assert [task for task in said if task not in read.endpoints] == [
        t for t, s in said.items() if s["kind"] == "binary"
    ]
    events = pd.read_csv(tmp_path / "l.csv")["os_event"].sum()
    assert (read.slides["os"] > 0).sum() == events
