"""A training that diverges blames the slide whose values are absurd, if there is one."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from commands_for_tests import PLUGIN, Milbench
from folders_for_tests import WIDTH, write_h5

from milbench.bag import Bag
from milbench.cohorts.cohort import Cohort
from milbench.cohorts.patient_bags import by_patient
from milbench.engines.culprit import culprit, culprit_of


def test_the_slide_with_values_out_of_proportion_is_named_with_its_file() -> None:
    bags = {f"s{n}": torch.full((2, 3), float(n + 1)) for n in range(5)}
    assert culprit(bags, bags.__getitem__, {}) == ""
    bags["s2"][0, 1] = -4e9
    said = culprit(bags, bags.__getitem__, {"s2": Path("features/s2.h5")})
    assert said.startswith("Slide s2 (features/s2.h5) holds values up to 4e+09, where a usual slide's largest is 4.")
    assert culprit([], bags.__getitem__, {}) == ""


def test_the_slide_of_a_patient_is_named_and_not_the_patient() -> None:
    bags = {f"s{n}": Bag(torch.full((2, 3), 4e9 if n == 3 else 1.0), f"s{n}") for n in range(6)}
    table = pd.DataFrame({"slide_id": list(bags), "patient_id": ["p", "p", "q", "q", "r", "r"], "x": 1.0})
    cohort = by_patient(Cohort("made", table, ("x",), 3, "", bags.__getitem__))
    assert culprit_of(cohort, ["p", "q", "r"], lambda bag: cohort.load(bag).features).startswith(
        "Slide s3 holds values up to 4e+09"
    )


def test_values_beyond_float32s_squares_stop_a_run_and_name_the_file(milbench: Milbench, cohort_folder: Path) -> None:
    path = min((cohort_folder / "features").iterdir())
    write_h5(path, np.full((4, WIDTH), 1e38, dtype=np.float32))
    words = ("--models", "tiny", "--plugin", PLUGIN, "--folds", "0", "--run", "out", "--workers", "1", "--no-tracking")
    result = milbench("run", "--cohort", str(cohort_folder), *words, "--set", "trainer.epochs=1")
    assert result.returncode == 2
    assert f"{path}: 4 of 4 patches hold values up to 1e+38" in result.stderr
    assert "trainer.lr" not in result.stderr


STEEP = """
from torch import nn
from milbench.models import BagOutput, MILModel, register_model

@register_model("steep", title="Steep", tasks="single")
class Steep(MILModel):
    def __init__(self, in_features, n_tasks):
        super().__init__(in_features, n_tasks)
        self.score = nn.Linear(in_features, n_tasks)

    def forward(self, features):
        return BagOutput((self.score(features) * 1e22).mean(dim=0), None, {})
"""
"""A model whose answers leave float32 for values of 1e17, and no others."""


def test_a_training_that_diverged_names_the_slide_before_the_rate(
    milbench: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for path in (cohort_folder / "features").iterdir():
        values = random.standard_normal((4, WIDTH)) * (1e17 if path.stem.startswith("TCGA-0") else 1)
        write_h5(path, values.astype(np.float32))
    (tmp_path / "steep.py").write_text(STEEP)
    words = ("--models", "steep", "--plugin", "steep.py", "--folds", "0", "--run", "out", "--workers", "1")
    result = milbench("run", "--cohort", str(cohort_folder), *words, "--no-tracking", "--set", "trainer.epochs=3")
    assert result.returncode == 3, result.stderr
    told = [json.loads(path.read_text()) for path in (tmp_path / "out" / "failures").glob("*.json")]
    assert told
    assert all("Slide TCGA-0" in str(each) and "e+17, where a usual slide's largest is" in str(each) for each in told)
