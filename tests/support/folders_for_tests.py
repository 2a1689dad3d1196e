"""A small folder cohort on disk."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from remembered import remembered

WIDTH = 6


def write_h5(path: Path, features: np.ndarray, coords: np.ndarray | None = None) -> None:
    """A CLAM feature file."""
    with h5py.File(path, "w") as file:
        file["features"] = features
        if coords is not None:
            file["coords"] = coords


@remembered(Path)
def make_folder_cohort(folder: Path, *, n_patients: int = 40, seed: int = 0) -> Path:
    """A cohort folder as CLAM lays it out: two tasks, the first learnable, patients with one or two slides."""
    rng = np.random.default_rng(seed)
    (folder / "features").mkdir(parents=True)
    rows = []
    for patient in range(n_patients):
        label_a, label_b = patient % 2, int(rng.random() < 0.4)
        for slide in range(1 + (patient % 5 == 0)):
            slide_id = f"TCGA-{patient:02d}-A0{slide}.X.{patient:03d}"
            n_patches = int(rng.integers(3, 9))
            features = rng.standard_normal((n_patches, WIDTH)) + 1.5 * label_a
            coords = np.stack([np.arange(n_patches) * 256, np.zeros(n_patches)], axis=1).astype(np.int32)
            write_h5(folder / "features" / f"{slide_id}.h5", features.astype(np.float32), coords)
            rows.append((f"TCGA-{patient:02d}", slide_id, label_a, label_b))
    pd.DataFrame(rows, columns=["case_id", "slide_id", "A", "B"]).to_csv(folder / "labels.csv", index=False)
    return folder
