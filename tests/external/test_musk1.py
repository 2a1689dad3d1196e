"""Real data: models of one half of MUSK1 score the other half, which lies in a folder of its own."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from external_for_tests import train
from places import SHARED

from milbench.commands.cli import main

MUSK1 = SHARED / "data/musk1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.realdata,
    pytest.mark.skipif(not MUSK1.is_dir(), reason="MUSK1 is not at hand: set MILBENCH_SHARED"),
]


def half(folder: Path, name: str, molecules: pd.DataFrame) -> Path:
    """A cohort folder with these molecules alone."""
    (folder / name / "features").mkdir(parents=True)
    for slide in molecules["slide_id"]:
        shutil.copy(MUSK1 / "features" / f"{slide}.h5", folder / name / "features")
    molecules.to_csv(folder / name / "labels.csv", index=False)
    (folder / name / "cohort.yaml").write_text(
        f"name: {name}\nlabels: labels.csv\nfeatures: features\nn_folds: 5\nfeature_scaling: standard\n"
    )
    return folder / name


def test_one_half_of_musk1_tells_the_other(tmp_path: Path) -> None:
    molecules = pd.read_csv(MUSK1 / "labels.csv")
    own, other = half(tmp_path, "even", molecules[::2]), half(tmp_path, "odd", molecules[1::2])
    run = train(tmp_path, own, "--models", "amil", "mean_pooling", "--set", "trainer.epochs=40")
    assert main(["evaluate", str(run), "--cohort", str(other), "--draws", "200"]) == 0
    folder = run / "external" / "odd"
    table = pd.read_csv(folder / "external.csv")
    assert len(pd.read_csv(other / "labels.csv")) == 46
    assert (table["external_auroc"] > 0.7).all(), table
    assert table["external_ensemble_auroc"].notna().all()
    assert {"external_roc.png", "external_calibration.pdf"} <= {path.name for path in folder.iterdir()}
