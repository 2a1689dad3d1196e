"""A cohort takes the settings that an earlier search chose for its models."""

from __future__ import annotations

import json
from pathlib import Path

from commands_for_tests import PLUGIN, Milbench

from milbench.store.run import open_run

WORDS = (
    "--run", "out", "--models", "tiny", "tiny_multi", "--cohort", "cohort.yaml", "--folds", "0", "--workers", "1",
    "--no-tracking", "--plugin", PLUGIN, "--set", "trainer.epochs=3",
)  # fmt: skip


def test_a_cohort_takes_the_settings_that_a_search_chose_for_it(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    text = "configurations: 8\nmodels: {tiny: {configuration: 5, trainer: {lr: 0.25}, model: {hidden: 3}}}\n"
    (tmp_path / "chosen.yaml").write_text(text)
    yaml = "name: toy\nlabels: toy/labels.csv\nfeatures: toy/features\ntuned: chosen.yaml\n"
    (tmp_path / "cohort.yaml").write_text(yaml)
    shown = milbench_here("run", *WORDS)
    assert shown.returncode == 0, shown.stderr
    assert "tuned, 8 configurations per model" in shown.stdout
    assert "tiny_multi: no search chose their settings, as one did for the other models." in " ".join(
        shown.stdout.split()
    )
    found = {trial.info["model"]: trial.info for trial in open_run(tmp_path / "out").trials()}
    assert (found["tiny"]["recipe"]["lr"], found["tiny"]["hyperparameters"]["hidden"]) == (0.25, 3)
    assert (found["tiny_multi"]["recipe"]["lr"], found["tiny_multi"]["hyperparameters"]["hidden"]) == (1e-4, 8)
    facts = json.loads((tmp_path / "out" / "datasets.json").read_text())["toy"]
    assert facts["tuned"]["configurations"] == 8
    assert facts["tuned"]["models"] == ["tiny"]
    assert any("tiny_multi: no search chose" in note for note in facts["notes"])


def test_names_of_no_model_in_a_cohorts_file_are_refused(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "chosen.yaml").write_text("configurations: 8\nmodels: {tinny: {trainer: {lr: 0.25}}}\n")
    (tmp_path / "cohort.yaml").write_text(
        "name: toy\nlabels: toy/labels.csv\nfeatures: toy/features\ntuned: chosen.yaml\n"
    )
    result = milbench_here("run", *WORDS)
    assert result.returncode == 2
    assert "Did you mean 'tiny'" in result.stderr
