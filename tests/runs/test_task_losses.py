"""Whole runs of mixed tasks: how their losses are set, what trial.json then holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from folders_for_tests import make_folder_cohort
from models_for_tests import THIS_FILE
from rich.console import Console
from studies_for_tests import results

from milbench.runs.benchmark import run_benchmark
from milbench.runs.config import RunConfig
from milbench.runs.preparation import prepare
from milbench.runs.progress import Progress
from milbench.store.run import open_run

COX = {"survival_loss": "cox", "bags_per_step": 16}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of a binary task, a score and a survival task."""
    folder = make_folder_cohort(tmp_path_factory.mktemp("mixed") / "toy")
    table, rng = pd.read_csv(folder / "labels.csv"), np.random.default_rng(3)
    n = len(table)
    by_patient = table["case_id"].astype("category").cat.codes.to_numpy()
    months = np.round(np.exp(3 - table["A"] + rng.normal(size=n)[by_patient] / 2), 1) + 0.1
    table = table.assign(
        hrd=table["A"] * 20 + rng.normal(size=n).round(2), months=months, died=(by_patient % 3 > 0) * 1
    )
    table.to_csv(folder / "labels.csv", index=False)
    (folder / "cohort.yaml").write_text(
        "name: toy\nlabels: labels.csv\nfeatures: features\n"
        "tasks:\n  A: binary\n  hrd: regression\n  os: {kind: survival, time: months, event: died, unit: months}\n"
    )
    return folder


def run(mixed: Path, out: Path, model: str, **trainer: Any) -> list[dict[str, Any]]:
    """trial.json of every trial."""
    config = RunConfig(
        models=(model,), cohorts=(str(mixed),), folds=(0,), plugins=(str(THIS_FILE),), run=str(out),
        trainer={"epochs": 2, "lr": 0.01, **trainer},
    )  # fmt: skip
    outcome = run_benchmark(prepare(config), Progress(Console()))
    assert (outcome.left, outcome.refused) == (0, "")
    return [json.loads(path.read_text()) for path in sorted(out.glob("trials/*/*/*/*/trial.json"))]


@pytest.mark.slow
def test_a_mixed_trial_tells_its_weights_and_steps_and_the_same_command_makes_the_same_bytes(
    mixed: Path, tmp_path: Path
) -> None:
    trial, _ = (
        run(mixed, tmp_path / name, "tiny_multi", **COX, task_weights="uncertainty")[0] for name in ("once", "again")
    )
    assert results(tmp_path / "once") == results(tmp_path / "again")
    assert trial["cox_steps_without_event"] == {"os": 0}
    assert trial["task_weights"].keys() == {"A", "hrd", "os"}
    assert all(0.4 < weight < 0.6 and weight != 0.5 for weight in trial["task_weights"].values())
    assert trial["recipe"]["task_weights"] == "uncertainty"
    assert [endpoint["loss"] for endpoint in trial["endpoints"]] == ["bce", "huber", "cox"]


def test_dwa_tells_the_weights_of_the_chosen_epoch(mixed: Path, tmp_path: Path) -> None:
    (trial,) = run(mixed, tmp_path / "out", "tiny_multi", task_weights="dwa", epochs=4)
    assert sum(trial["task_weights"].values()) == pytest.approx(3, rel=1e-6)
    assert "cox_steps_without_event" not in trial


@pytest.mark.slow
def test_trials_of_fixed_weights_tell_none(mixed: Path, tmp_path: Path) -> None:
    trials = run(mixed, tmp_path / "out", "tiny", class_weights="balanced")
    assert [trial["tasks"] for trial in trials] == [["A"], ["hrd"], ["os"]]
    assert not any("task_weights" in trial or "cox_steps_without_event" in trial for trial in trials)
    weights = [trial["recipe"].get("class_weights") for trial in trials]
    assert weights == ["balanced", None, None], "a score and a time have no classes"
    out = open_run(tmp_path / "out")
    assert len(out.trials()) == len(out.planned()) == 3, "trials of one model that differ in it answer one question"
