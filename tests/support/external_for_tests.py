"""Two simulated cohorts of one world: the same signal, other patients; the second may be shifted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from folders_for_tests import write_h5
from made_once import made_once
from models_for_tests import THIS_FILE

from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.commands.cli import main
from milbench.external.evaluate import External, checked
from milbench.external.trained import trained
from milbench.simulate.design import make_design
from milbench.simulate.write import Simulation, simulate, write_cohort
from milbench.store.run import open_run

SLIDES = 120


def two_cohorts(
    folder: Path, *, slides: int = SLIDES, seed: int = 3, shift: float = 0.0, prevalence: float = 0.5
) -> tuple[Path, Path]:
    """Folders of an internal and an external cohort of one simulated world.

    Parameters
    ----------
    shift : standard deviation of the external cohort's batch effect.
    prevalence : share of positive patients in the external cohort; half of the internal one's are positive.
    """
    design = make_design("witness", [("slides", slides), ("tasks", ["A", "B"]), ("prevalences", 0.5), ("width", 8),
                                     ("patches", 16), ("patches_multiple", 1)])  # fmt: skip
    own = _named(folder / "home", simulate(design, seed))
    other = replace(design, site_sd=shift, prevalences=(prevalence,))
    return own, _named(folder / "away", simulate(other, seed + 1, world=seed))


def _named(folder: Path, simulation: Simulation) -> Path:
    """Folder of the cohort, which is called as its folder is."""
    write_cohort(simulation, folder)
    file = yaml.safe_load((folder / "cohort.yaml").read_text())
    more = {"name": folder.name, "n_folds": 2, "feature_scaling": "standard"}
    (folder / "cohort.yaml").write_text(yaml.safe_dump({**file, **more}))
    return folder


WIDTH = 6
KINDS_FILE = """
name: {name}
labels: labels.csv
features: features
n_folds: 2
tasks:
  TP53: binary
  subtype: {{kind: multiclass, classes: {classes}}}
  grade: {{kind: ordinal, classes: [G1, G2, G3]}}
  HRD: {{kind: regression}}
  OS: {{kind: survival, time: days, event: died, unit: {unit}}}
model: {{hidden: 8, attention: 4}}
"""


def cohort_of_kinds(
    folder: Path, name: str, *, first: int = 0, patients: int = 60, classes: tuple[str, ...] = ("a", "b", "c"),
    unit: str = "days", width: int = WIDTH,
) -> Path:  # fmt: skip
    """A cohort with one task of every kind; each is written on the mean of the slide's patches.

    Parameters
    ----------
    first : number of the first patient.
    """
    rng = np.random.default_rng(first + 1)
    (folder / "features").mkdir(parents=True)
    rows = []
    for patient in range(first, first + patients):
        z = rng.standard_normal(width)
        slide = f"{name}-{patient}"
        patches = z + 0.5 * rng.standard_normal((5, width))
        write_h5(folder / "features" / f"{slide}.h5", patches.astype(np.float32))
        rows.append({
            "case_id": f"p{patient}", "slide_id": slide, "TP53": int(z[0] > 0), "subtype": "abc"[patient % 3],
            "grade": f"G{1 + int(np.digitize(z[2], [-0.5, 0.5]))}", "HRD": 30 + 10 * z[3],
            "days": 1 + 900 * np.exp(-z[4]), "died": int(rng.random() < 0.7),
        })  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    text = KINDS_FILE.format(name=name, classes=f"[{', '.join(classes)}]", unit=unit)
    (folder / "cohort.yaml").write_text(text)
    return folder


def train(folder: Path, cohort: Path, *words: str) -> Path:
    """Run folder of models on the cohort."""
    run = folder / "run"
    assert main(["run", "--cohort", str(cohort), "--run", str(run), "--no-tracking", "--workers", "1", *words]) == 0
    return run


def run_of_kinds(factory: pytest.TempPathFactory) -> Path:
    """Run folder of two small models on tasks of every kind, trained once for all files of tests, which only read it."""

    def make(folder: Path) -> None:
        own = cohort_of_kinds(folder / "own", "own")
        models = ("--models", "tiny", "tiny_multi", "--plugin", str(THIS_FILE))
        train(folder, own, *models, "--set", "trainer.epochs=3", "trainer.lr=0.1")

    return made_once(factory, "run-of-kinds", make) / "run"


def copy_of_run_of_kinds(factory: pytest.TempPathFactory) -> Path:
    """A copy of that run, for tests of one file to write into."""
    return Path(shutil.copytree(run_of_kinds(factory), factory.mktemp("copy") / "run"))


def external_of(run: Path, cohort: Path | Cohort, **more: bool) -> External:
    found = cohort if isinstance(cohort, Cohort) else folder_cohort(cohort)
    return checked(trained(open_run(run)), found, **more)


def watch(slides: Iterable[str], _: str) -> Iterable[str]:
    return slides
