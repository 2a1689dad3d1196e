"""A model of patients says what one bag is, and nothing of single slides."""

import json
from pathlib import Path

import pytest
from patients_for_tests import cohort_of_patients

from milbench import load_exported, open_run
from milbench.commands.cli import main


def test_a_model_of_patients_is_exported_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milbench.export.onnx_graph.find_spec", lambda _: None)
    cohort, run, out = cohort_of_patients(tmp_path / "own", "own"), tmp_path / "run", tmp_path / "out"
    words = ["--models", "mean_pooling", "--tasks", "A", "--folds", "0", "--workers", "1", "--no-tracking"]
    settings = ["--set", "trainer.epochs=1", "model.*.hidden=8"]
    assert main(["run", "--cohort", str(cohort), "--run", str(run), *words, *settings]) == 0
    assert main(["export", str(run), "mean_pooling", "--fold", "0", "--draws", "100", "--out", str(out)]) == 0
    facts, card = json.loads((out / "model.json").read_text()), (out / "README.md").read_text()
    assert facts["input"]["bag"] == "patient"
    assert "all of one patient's slides, joined" in facts["input"]["features"]
    assert facts["input"]["patch_size"] == 256
    assert set(facts["thresholds"]["A"]) == {"of", "patient", "chosen_by"}
    assert set(facts["scores"]["A"]["each"]["fold0-seed42"]) == {"patient"}
    assert "n_slides" not in facts["scores"]["A"]["test_side"]
    assert "all whole-slide images of one patient, joined" in card
    assert "slide by slide" not in card
    rows = open_run(run).predictions().query("role == 'test'")
    first = next(rows.itertuples())
    bag = open_run(run).cohort().load(first.slide_id)
    assert load_exported(out).answers(bag.features)["A"]["probability"] == pytest.approx(first.probability, abs=1e-6)
