"""A run with weights, trained in seconds on a small folder cohort of two lattices, and made slides to lay it over."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from milbench.commands.cli import main

TASKS = ("A", "B")
WIDTH, PATCH = 6, 256
N_SLIDES = 24
MODELS = ("amil", "m4", "mean_pooling")
ONE_EPOCH = ("--no-tracking", "--folds", "0-1", "--workers", "1", "--set", "trainer.epochs=1", "model.*.hidden=8",
             "model.*.attention=4")  # fmt: skip


def slide_name(index: int) -> str:
    return f"SLIDE-{index:02d}.X"


def write_cohort(folder: Path, *, coords: bool = True, truth: bool = True) -> Path:
    """Slides of a blob on a lattice: a fifth of the patches of a positive slide carries the evidence of its task."""
    rng = np.random.default_rng(0)
    (folder / "features").mkdir(parents=True)
    rows = []
    for index in range(N_SLIDES):
        labels = np.array([index % 2, index // 2 % 2])
        n = int(rng.integers(20, 40))
        cells = rng.choice(96, size=n, replace=False)  # 12 columns, 8 rows
        evidence = (rng.random((n, 2)) < 0.2) * labels
        features = rng.standard_normal((n, WIDTH)) * 0.3 + np.pad(evidence * 4.0, ((0, 0), (0, WIDTH - 2)))
        with h5py.File(folder / "features" / f"{slide_name(index)}.h5", "w") as file:
            file["features"] = features.astype(np.float32)
            if coords:
                corners = np.stack([cells % 12, cells // 12], axis=1) * PATCH + (512, 256)
                file.create_dataset("coords", data=corners.astype(np.int32)).attrs["patch_size_level0"] = PATCH
            if truth:
                file["instance_labels"] = evidence.astype(np.uint8)
        rows.append((f"P{index:02d}", slide_name(index), *labels))
    pd.DataFrame(rows, columns=["case_id", "slide_id", *TASKS]).to_csv(folder / "labels.csv", index=False)
    return folder


def train(folder: Path, cohort: Path, *words: str, models: tuple[str, ...] = MODELS) -> Path:
    """Run folder below `folder` of one epoch on `cohort`."""
    run = folder / "runs" / cohort.name
    code = main(["run", "--cohort", str(cohort), "--models", *models, "--run", str(run), *ONE_EPOCH, *words])
    assert code == 0
    return run
