"""Kinds of tasks in a cohort.yaml: what may be said, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.cohorts.task_kinds import declared_tasks
from milbench.endpoints.endpoint import BINARY, Endpoint
from milbench.errors import UsageError
from milbench.labels.declared import Declared


def test_a_kind_alone_may_be_a_word() -> None:
    assert declared_tasks(Path("c.yaml"), {"A": "binary", "B": {"kind": "regression", "transform": "log1p"}}) == {
        "A": Declared(),
        "B": Declared("regression", transform="log1p"),
    }


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("regresion", "task 'A': unknown kind 'regresion'. Did you mean 'regression'?"),
        (3, "task 'A' is 3; expected a kind"),
        ({"classes": ["a"]}, "expected a kind"),
        ({"kind": "regression", "clases": [1]}, "task 'A' is regression: unknown key 'clases'"),
        ({"kind": "regression", "transform": "log"}, "unknown transform 'log'. Did you mean 'log1p'?"),
        ("survival", "names no column of times"),
        ({"kind": "survival", "time": "t", "unit": "weeks"}, "unknown unit 'weeks'"),
        ({"kind": "survival", "time": "t", "event": "e", "censored": "c"}, "Keep the one that tells"),
        ({"kind": "multiclass", "classes": ["a", "b"]}, "has 2 classes .*write `kind: binary`"),
        ({"kind": "ordinal", "classes": ["G1", "g1", "G2"]}, "names the class 'G1' twice"),
        ({"kind": "multiclass", "classes": [True, False, "x"]}, "holds True. Write cells as they stand"),
    ],
)
def test_a_mistake_in_a_kind_is_told(said: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        declared_tasks(Path("c.yaml"), {"A": said})


def test_no_task_is_called_as_the_columns_of_ids() -> None:
    with pytest.raises(UsageError, match="a task cannot be called 'slide_id'"):
        declared_tasks(Path("c.yaml"), {"slide_id": {"kind": "binary", "column": "x"}})


def cohort_of(folder: Path, tasks: str) -> Cohort:
    table = pd.read_csv(folder / "labels.csv", dtype=str)
    table.assign(grade=[("a", "b", "c")[n % 3] for n in range(len(table))]).to_csv(folder / "graded.csv", index=False)
    (folder / "cohort.yaml").write_text(f"name: toy\nlabels: graded.csv\nfeatures: features\ntasks: {tasks}\n")
    return folder_cohort(folder)


def test_a_cohort_knows_the_kinds_of_its_tasks_and_the_order_of_classes_is_part_of_its_identity(
    cohort_folder: Path,
) -> None:
    binary = cohort_of(cohort_folder, "[B]")
    assert (binary.endpoint("B"), binary.endpoints) == (BINARY, {})
    assert cohort_of(cohort_folder, "{B: binary}").fingerprint == binary.fingerprint
    multiclass, ordinal, other = (
        cohort_of(cohort_folder, f"{{B: binary, grade: {{kind: {kind}, classes: [{classes}]}}}}")
        for kind, classes in (("multiclass", "a, b, c"), ("ordinal", "a, b, c"), ("ordinal", "a, b, c, d"))
    )
    assert multiclass.endpoint("grade") == Endpoint("multiclass", ("a", "b", "c"))
    assert multiclass.slides.equals(ordinal.slides)
    assert ordinal.slides.equals(other.slides)
    assert len({binary.fingerprint, multiclass.fingerprint, ordinal.fingerprint, other.fingerprint}) == 4
