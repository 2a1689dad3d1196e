"""One run folder answers one question: what was trained for another is named, kept and never mixed in."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from commands_for_tests import PLUGIN, Milbench
from folders_for_tests import WIDTH, write_h5

from milbench.store.run import open_run

WORDS = ("--no-tracking", "--plugin", PLUGIN, "--run", "out", "--workers", "1", "--set", "trainer.lr=0.01")
EPOCHS = "trainer: {epochs: 2}\n"
YAML = "name: toy\nlabels: toy/labels.csv\nfeatures: toy/features\n"


@pytest.fixture
def cohort(tmp_path: Path, cohort_folder: Path) -> Path:
    """A cohort.yaml beside the toy cohort's folder."""
    path = tmp_path / "cohort.yaml"
    path.write_text(YAML + EPOCHS)
    return path


def run(milbench: Milbench, *words: str, command: str = "run", code: int = 0) -> str:
    result = milbench(command, "--cohort", "cohort.yaml", *words, *WORDS)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout + result.stderr


def flip_first_label(folder: Path) -> str:
    """Correct the first slide's label of task A; the patient whose label it is."""
    table = pd.read_csv(folder / "labels.csv", dtype=str)
    table.loc[0, "A"] = "1" if table.loc[0, "A"] == "0" else "0"
    table.to_csv(folder / "labels.csv", index=False)
    return str(table.loc[0, "case_id"])


@pytest.mark.slow
def test_an_edit_in_the_middle_of_a_feature_file_makes_trials_stale_until_it_is_taken_back(
    milbench: Milbench, cohort: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    path = min((cohort_folder / "features").iterdir())
    features = np.random.default_rng(0).standard_normal((20_000, WIDTH)).astype(np.float32)
    write_h5(path, features)
    run(milbench, "--models", "tiny", "--folds", "0")
    former = {trial.id for trial in open_run(tmp_path / "out").trials()}

    def edit(value: float) -> None:
        with h5py.File(path, "a") as file:
            file["features"][10_000] = value

    edit(3.0)
    changed = f"features of 1 slide changed: {path.stem}"
    said = run(milbench, "--models", "tiny", "--folds", "0", command="plan")
    assert changed in said
    assert "2 trials, 2 to do" in said
    said = run(milbench, "--models", "tiny", "--folds", "0", "--tasks", "A", "--run", "out", command="plan")
    assert changed in said
    said = run(milbench, "--models", "tiny", "--folds", "0", "--workers", "2")
    assert changed in said
    assert "2 trials of other features, last used" in said
    assert not former & {trial.id for trial in open_run(tmp_path / "out").trials()}

    with h5py.File(path, "a") as file:
        file["features"][10_000] = features[10_000]
    said = run(milbench, "--models", "tiny", "--folds", "0")
    assert "2 trials (2 already done)" in said
    assert {trial.id for trial in open_run(tmp_path / "out").trials()} == former


def test_a_run_folder_of_an_older_version_keeps_its_trials_and_remembers_from_then_on(
    milbench: Milbench, cohort: Path, tmp_path: Path
) -> None:
    run(milbench, "--models", "tiny", "--folds", "0")
    (tmp_path / "out" / "features" / "toy.json").unlink()
    assert "2 trials (2 already done)" in run(milbench, "--models", "tiny", "--folds", "0")
    assert (tmp_path / "out" / "features" / "toy.json").exists()


@pytest.mark.slow
def test_an_edit_that_keeps_size_and_time_is_seen_if_features_are_verified(
    milbench: Milbench, cohort: Path, cohort_folder: Path
) -> None:
    path = min((cohort_folder / "features").iterdir())
    write_h5(path, np.zeros((20_000, WIDTH), dtype=np.float32))
    for each in path.parent.iterdir():
        os.utime(each, ns=(10**18, 10**18))
    run(milbench, "--models", "tiny", "--folds", "0")
    with h5py.File(path, "a") as file:
        file["features"][10_000] = 3
    os.utime(path, ns=(10**18, 10**18))
    assert "2 to do" not in run(milbench, "--models", "tiny", "--folds", "0", command="plan")
    said = run(milbench, "--models", "tiny", "--folds", "0", "--verify-features", command="plan")
    assert f"features of 1 slide changed: {path.stem}" in said
    assert "2 trials, 2 to do" in said


@pytest.mark.slow
def test_a_changed_label_makes_every_trial_stale_and_no_table_mixes_them(
    milbench: Milbench, cohort: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    run(milbench, "--models", "tiny", "tiny_multi", "--folds", "0", "1")
    patient = flip_first_label(cohort_folder)

    said = run(milbench, "--models", "tiny", "--folds", "0", command="plan")
    assert f"labels changed: {patient} A 0 -> 1" in said
    assert "6 finished trials answer the former question" in said

    said = run(milbench, "--models", "tiny", "--folds", "0")
    assert f"labels changed: {patient} A 0 -> 1" in said
    assert "6 trials of other labels and another split, last used" in said
    assert "2 of 6 planned trials of out are done; none of tiny_multi" in said
    assert "Tiny multi" not in said
    folder = open_run(tmp_path / "out")
    assert {trial.info["model"] for trial in folder.trials()} == {"tiny"}
    assert len({trial.info["fingerprint"] for trial in folder.trials()}) == 1
    assert len(folder.stale()) == 6

    status = milbench("status", "out").stdout
    assert re.search(r"tiny +│ +2 │ +0 │ +0 │ +2", status)
    assert re.search(r"tiny_multi +│ +0 │ +0 │ +0 │ +2", status)
    assert "6 trials of other labels and another split, last used" in status

    report = milbench("report", "out", "--no-tracking", "--draws", "100")
    assert "Left out: 6 trials of other labels and another split" in report.stderr
    assert "Tiny multi" not in (tmp_path / "reports" / "out" / "table2.csv").read_text()


@pytest.mark.slow
def test_what_is_stale_is_told_and_pruned_also_where_a_folder_has_another_name_than_its_task(
    milbench: Milbench, cohort: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("--models", "tiny", "--folds", "0")
    flip_first_label(cohort_folder)
    table = pd.read_csv(cohort_folder / "labels.csv", dtype=str)
    table.rename(columns={"A": "MSI/MMR"}).to_csv(cohort_folder / "labels.csv", index=False)
    run(milbench, *words)
    table.to_csv(cohort_folder / "labels.csv", index=False)
    flip_first_label(cohort_folder)
    back = pd.read_csv(cohort_folder / "labels.csv", dtype=str).rename(columns={"A": "MSI/MMR"})
    back.to_csv(cohort_folder / "labels.csv", index=False)
    said = run(milbench, *words, "--prune")
    assert f"labels changed: {table['case_id'][0]} MSI/MMR 1 -> 0" in said
    assert "2 trials of other labels" in said
    folder = open_run(tmp_path / "out")
    assert folder.stale() == []
    assert {slot.group for slot in folder.slots()} == {"MSI/MMR", "B"}
    assert {task for trial in folder.trials() for task in trial.info["tasks"]} == {"MSI/MMR", "B"}
    assert re.search(r"tiny +│ +2 │ +0 │ +0 │ +0", milbench("status", "out").stdout)


@pytest.mark.slow
def test_labels_that_change_back_find_their_trials_again(
    milbench: Milbench, cohort: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("--models", "tiny_multi", "--folds", "0")
    run(milbench, *words)
    flip_first_label(cohort_folder)
    run(milbench, *words)
    flip_first_label(cohort_folder)
    assert "1 trials done before" in run(milbench, *words)
    assert len(open_run(tmp_path / "out").stale()) == 1


@pytest.mark.slow
def test_the_former_sides_are_kept_when_asked_and_from_then_on(
    milbench: Milbench, cohort: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("--models", "tiny_multi", "--folds", "0")
    run(milbench, *words)
    former = (tmp_path / "out" / "splits" / "toy.csv").read_bytes()
    flip_first_label(cohort_folder)
    said = run(milbench, *words)
    hint = re.search(r"because the labels did\. To keep the former sides, add --splits (\S+)", said)
    assert hint
    assert (tmp_path / "out" / "splits" / "toy.csv").read_bytes() != former
    run(milbench, *words, "--splits", hint[1])
    assert (tmp_path / "out" / "splits" / "toy.csv").read_bytes() == former
    assert "1 trials done before" in run(milbench, *words)  # without the flag
    assert (tmp_path / "out" / "splits" / "toy.csv").read_bytes() == former


@pytest.mark.slow
def test_an_edited_trainer_section_makes_other_models_stale_too(milbench: Milbench, cohort: Path) -> None:
    run(milbench, "--models", "tiny", "tiny_multi", "--folds", "0")
    cohort.write_text(YAML + "trainer: {epochs: 3}\n")
    said = run(milbench, "--models", "tiny", "--folds", "0")
    assert "toy: trainer.epochs 2 -> 3" in said
    assert "3 trials of trainer.epochs 2 -> 3, last used" in said
    assert "none of tiny_multi" in said


@pytest.mark.slow
def test_prune_says_what_it_deletes_and_leaves_the_rest(
    milbench: Milbench, cohort: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("--models", "tiny_multi", "--folds", "0")
    run(milbench, *words)
    flip_first_label(cohort_folder)
    said = run(milbench, *words, "--prune")
    assert "1 trial of other labels and another split" in said
    assert "deleted" in said
    folder = open_run(tmp_path / "out")
    assert folder.stale() == []
    assert len(folder.trials()) == 1


@pytest.mark.slow
def test_a_folder_that_already_mixes_two_questions_shows_the_newest(
    milbench: Milbench, cohort: Path, cohort_folder: Path, tmp_path: Path
) -> None:
    """As older versions left it: no record of questions, and cohorts described as they were last."""
    run(milbench, "--models", "tiny", "tiny_multi", "--folds", "0")
    flip_first_label(cohort_folder)
    run(milbench, "--models", "tiny", "--folds", "0")
    (tmp_path / "out" / "questions.json").unlink()
    folder = open_run(tmp_path / "out")
    assert {trial.info["model"] for trial in folder.trials()} == {"tiny"}
    assert {trial.info["model"] for trial in folder.stale()} == {"tiny", "tiny_multi"}


@pytest.mark.slow
def test_an_old_folder_trained_with_two_settings_shows_those_of_its_cohort(
    milbench: Milbench, cohort: Path, tmp_path: Path
) -> None:
    run(milbench, "--models", "tiny", "tiny_multi", "--folds", "0")
    cohort.write_text(YAML + "trainer: {epochs: 3}\n")
    run(milbench, "--models", "tiny", "--folds", "0")
    (tmp_path / "out" / "questions.json").unlink()
    folder = open_run(tmp_path / "out")
    assert {trial.info["recipe"]["epochs"] for trial in folder.trials()} == {3}
    assert {trial.other for trial in folder.stale()} == {("trainer.epochs 2 -> 3",), ("an earlier plan",)} or all(
        trial.info["recipe"]["epochs"] == 2 for trial in folder.stale()
    )


@pytest.mark.slow
def test_a_damaged_record_of_questions_is_one_clear_message(milbench: Milbench, cohort: Path, tmp_path: Path) -> None:
    run(milbench, "--models", "tiny_multi", "--folds", "0")
    (tmp_path / "out" / "questions.json").write_text(json.dumps(["not", "this"]))
    result = milbench("status", "out")
    assert result.returncode == 2
    assert "questions.json is damaged" in result.stderr
    assert "Traceback" not in result.stderr
