"""A small folder cohort with one learnable task of every kind, and a run of two folds on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from folders_for_tests import make_folder_cohort

from milbench.commands.cli import main

TASKS = {
    "A": "binary",
    "subtype": "{kind: multiclass, classes: [x, y, z]}",
    "grade": "{kind: ordinal, classes: [G1, G2, G3]}",
    "hrd": "regression",
    "os": "{kind: survival, time: months, event: died, unit: months}",
}


def make_cohort_of_kinds(folder: Path) -> Path:
    """Labels of patients, a fifth of whom have two slides."""
    make_folder_cohort(folder, n_patients=50)
    table, rng = pd.read_csv(folder / "labels.csv"), np.random.default_rng(3)
    patient = table["case_id"].astype("category").cat.codes.to_numpy()
    noise = rng.normal(size=50)[patient]
    table = table.assign(
        subtype=np.array(["x", "y", "z"])[(table["A"] + patient // 2) % 3],
        grade=np.array(["G1", "G2", "G3"])[(table["A"] + (patient // 2) % 2)],
        hrd=(table["A"] * 20 + noise).round(2),
        months=np.exp(3 - table["A"] + noise / 2).round(1) + 0.1,
        died=(patient % 3 > 0) * 1,
    )
    table.to_csv(folder / "labels.csv", index=False)
    tasks = "".join(f"  {name}: {said}\n" for name, said in TASKS.items())
    (folder / "cohort.yaml").write_text(f"name: toy\nlabels: labels.csv\nfeatures: features\ntasks:\n{tasks}")
    return folder


def train_every_kind(cohort: Path, run: Path, *words: str) -> Path:
    """Run folder of mean pooling, a model per task, and M4, one for all tasks, one epoch in two folds."""
    settings = ("trainer.epochs=1", "trainer.lr=0.01", "model.*.hidden=8", "model.*.attention=4")
    code = main(
        ["run", "--cohort", str(cohort), "--models", "mean_pooling", "m4", "--folds", "0-1", "--run", str(run),
         "--workers", "1", "--no-tracking", "--set", *settings, *words]
    )  # fmt: skip
    assert code == 0
    return run
