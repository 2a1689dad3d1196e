"""A small folder cohort on disk, and the command line run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from fake_server import FakeServer, running
from models_for_tests import THIS_FILE

WIDTH = 6


def write_h5(path: Path, features: np.ndarray, coords: np.ndarray | None = None) -> None:
    """A CLAM feature file."""
    with h5py.File(path, "w") as file:
        file["features"] = features
        if coords is not None:
            file["coords"] = coords


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


@pytest.fixture
def cohort_folder(tmp_path: Path) -> Path:
    return make_folder_cohort(tmp_path / "toy")


Milbench = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def milbench(tmp_path: Path) -> Milbench:
    """`milbench(words...)` in a fresh working directory, as a process of its own."""

    def call(*words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=timeout
        )

    return call


@pytest.fixture
def milbench_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Milbench:
    """As `milbench`, but inside the tests' process: ten times faster where no worker is started."""
    from milbench.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        try:
            code = main(words)
        except SystemExit as stop:  # --help
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, printed.out, printed.err)

    return call


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server on this machine for what is fetched from others, and no pause between two tries."""
    monkeypatch.setattr("milbench.acquire.http.BACKOFF_SECONDS", 0)
    monkeypatch.delenv("MILBENCH_DATA", raising=False)
    with running() as fake:
        yield fake


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "milbench.cli", *words]


def environment() -> dict[str, str]:
    """The caller's environment, with the tests' folder importable for loky's workers."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", "COLUMNS": "200"}


PLUGIN = str(THIS_FILE)
FAST = ("--no-tracking", "--plugin", PLUGIN, "--set", "trainer.epochs=2", "trainer.lr=0.01")
"""Flags that make a run of seconds."""
