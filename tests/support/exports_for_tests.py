"""A run with a task of every kind and scaled features, and exports of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from kinds_cohort_for_tests import make_cohort_of_kinds, train_every_kind
from made_once import made_once

from milbench.export.chosen import Chosen, chosen
from milbench.export.folder import Written, export
from milbench.runs.notebook import NotebookRun, open_run

DRAWS = 100


def run_for_exports(factory: pytest.TempPathFactory) -> NotebookRun:
    """Run of mean pooling and M4 in two folds, whose scaler is fitted; trained once for all files of tests."""

    def make(folder: Path) -> None:
        cohort = make_cohort_of_kinds(folder / "toy")
        with (cohort / "cohort.yaml").open("a") as file:
            file.write("feature_scaling: standard\n")
        train_every_kind(cohort, folder / "runs" / "toy")

    return open_run(made_once(factory, "run-for-exports", make) / "runs" / "toy")


def copy_of(run: NotebookRun, folder: Path) -> NotebookRun:
    """The same run beside its cohort, to be changed."""
    shutil.copytree(run.path.parent.parent, folder, dirs_exist_ok=True)
    return open_run(folder / "runs" / "toy")


def exported(run: NotebookRun, out: Path, model: str, **asked: Any) -> Written:
    return export(asked_for(run, model, **asked), out, DRAWS)


def asked_for(run: NotebookRun, model: str, **asked: Any) -> Chosen:
    return chosen(run, model, **{"fold": None, **asked})
