"""Cohorts whose patients have one to three slides, in a table that is not in the order of their ids."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch

from milbench.commands.cli import main
from milbench.heatmap.stored import RunCohort

WIDTH, PATCH = 6, 256
BINARY_TASKS = "[A, B]"
KINDS = """
  A: binary
  subtype: {kind: multiclass, classes: [a, b, c]}
  OS: {kind: survival, time: days, event: died, unit: days}"""

SMALL = ("--no-tracking", "--folds", "0", "--workers", "1", "--set", "trainer.epochs=1", "model.*.hidden=8", "model.*.attention=4")  # fmt: skip


def write_slide(path: Path, features: np.ndarray, corner: int = 0, patch_size: int = PATCH) -> None:
    """A feature file as CLAM and TRIDENT write it, whose patches stand in a row that begins at `corner`."""
    coords = np.stack([corner + np.arange(len(features)) * patch_size, np.zeros(len(features))], axis=1)
    with h5py.File(path, "w") as file:
        file["features"] = features.astype(np.float32)
        file.create_dataset("coords", data=coords.astype(np.int32)).attrs["patch_size_level0"] = patch_size


def cohort_of_patients(
    folder: Path, name: str, *, first: int = 0, patients: int = 18, bag: str = "patient", tasks: str = BINARY_TASKS
) -> Path:
    """A cohort folder; patient i has 1 + i % 3 slides.

    Parameters
    ----------
    first : number of the first patient.
    bag : empty = cohort.yaml says nothing of bags.
    """
    (folder / "features").mkdir(parents=True)
    rows = []
    for patient in range(first, first + patients):
        rng = np.random.default_rng(patient)
        labels = {"A": patient % 2, "B": patient // 2 % 2, "subtype": "abc"[patient % 3], "days": 10 + patient * 7 % 97,
                  "died": int(patient % 4 != 0)}  # fmt: skip
        for slide in range(1 + patient % 3):
            features = rng.standard_normal((int(rng.integers(4, 8)), WIDTH)) + 1.5 * labels["A"]
            write_slide(folder / "features" / f"s{patient:02d}.{slide}.h5", features, corner=512 * slide)
            rows.append({"case_id": f"p{patient:02d}", "slide_id": f"s{patient:02d}.{slide}", **labels})
    pd.DataFrame(rows[::-1]).to_csv(folder / "labels.csv", index=False)
    write_yaml(folder, name, bag, tasks)
    return folder


def write_yaml(folder: Path, name: str, bag: str, tasks: str = BINARY_TASKS) -> None:
    said = f"bag: {bag}\n" if bag else ""
    text = f"name: {name}\nlabels: labels.csv\nfeatures: features\nn_folds: 2\n{said}tasks: {tasks}\n"
    (folder / "cohort.yaml").write_text(text)


def trained(folder: Path, name: str, *words: str, bag: str = "patient", tasks: str = "[A, B]") -> Path:
    """Run folder on a cohort of its name."""
    cohort = cohort_of_patients(folder / name, name, bag=bag, tasks=tasks)
    run = folder / f"run-{name}"
    assert main(["run", "--cohort", str(cohort), "--run", str(run), *SMALL, *words]) == 0
    return run


def joined_features(cohort: RunCohort, patient: str) -> torch.Tensor:
    slides = cohort.cohort.by_slide
    return torch.cat([slides.load(slide).features for slide in cohort.cohort.members[patient]])
