"""Changes of labels are told in the user's words, whatever the kind of the task."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from milbench.runs.changes import changes_of
from milbench.runs.config import make_config
from milbench.runs.header import write_header
from milbench.runs.preparation import Benchmark, prepare
from milbench.store.run import open_run

ORDINAL, MULTICLASS = (f"{{kind: {kind}, classes: [G1, G2, G3]}}" for kind in ("ordinal", "multiclass"))


@pytest.fixture
def folder(cohort_folder: Path) -> Path:
    """The toy cohort with grades and survival times."""
    table = pd.read_csv(cohort_folder / "labels.csv", dtype=str)
    places = range(len(table))
    table["grade"] = [f"G{place % 3 + 1}" for place in places]
    table["os_days"], table["os_event"] = [str(100 + place) for place in places], [str(place % 2) for place in places]
    table.to_csv(cohort_folder / "labels.csv", index=False)
    return cohort_folder


def prepared(folder: Path, run: Path, grade: str) -> Benchmark:
    survival = "{kind: survival, time: os_days, event: os_event}"
    (folder / "cohort.yaml").write_text(
        f"name: toy\nlabels: labels.csv\nfeatures: features\ntasks: {{B: binary, grade: {grade}, os: {survival}}}\n"
    )
    flags = {"cohorts": [str(folder)], "models": ["mean_pooling"], "folds": [0], "run": str(run)}
    return prepare(make_config(None, [], flags))


def changed(folder: Path, run: Path, grade: str) -> str:
    """What a second command says has changed."""
    return "\n".join(changes_of(prepared(folder, run, grade), will_run=False))


def test_labels_of_every_kind_that_changed_are_told_in_the_users_words(folder: Path, tmp_path: Path) -> None:
    write_header(prepared(folder, tmp_path / "out", ORDINAL))
    assert changed(folder, tmp_path / "out", ORDINAL) == ""
    table = pd.read_csv(folder / "labels.csv", dtype=str)
    patient = table.loc[0, "case_id"]
    table.loc[0, ["grade", "os_event"]] = ["G3", "1"]
    table.to_csv(folder / "labels.csv", index=False)
    said = changed(folder, tmp_path / "out", ORDINAL)
    assert f"{patient} grade G1 -> G3" in said
    assert f"{patient} os censored at 100 days -> event at 100 days" in said


def test_a_task_that_becomes_one_of_another_kind_is_told_and_its_numbers_are_not_compared(
    folder: Path, tmp_path: Path
) -> None:
    write_header(prepared(folder, tmp_path / "out", MULTICLASS))
    said = changed(folder, tmp_path / "out", ORDINAL)
    assert "toy: grade is ordinal (G1, G2, G3), was multiclass (G1, G2, G3)" in said
    assert "features changed" not in said
    reordered = changed(folder, tmp_path / "out", "{kind: multiclass, classes: [G3, G2, G1]}")
    assert "grade is multiclass (G3, G2, G1), was multiclass (G1, G2, G3)" in reordered
    assert "labels changed" not in reordered


def test_a_run_holds_the_kinds_and_the_labels_of_its_tasks(folder: Path, tmp_path: Path) -> None:
    write_header(prepared(folder, tmp_path / "out", ORDINAL))
    run = open_run(tmp_path / "out")
    assert run.datasets["toy"]["endpoints"] == {
        "grade": {"kind": "ordinal", "classes": ["G1", "G2", "G3"]},
        "os": {"kind": "survival"},
    }
    labels = run.labels("toy")
    assert labels["grade"].tolist()[:4] == [0, 1, 2, 0]
    assert labels["os"].tolist()[:2] == [-100, 101]
