"""SIGKILL inside writes of checkpoints, merges and what is remembered of feature files: the same command ends with the same bytes, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import killing
import numpy as np
import pandas as pd
import pytest
from commands_for_tests import Milbench, environment
from studies_for_tests import results, run_words

from milbench.cohorts.content import contents
from milbench.cohorts.record import read_record
from milbench.commands.cli import main
from milbench.store.run import open_run


def killed(folder: Path, kind: str, n_kills: int, run: Path, *words: str) -> dict[str, int]:
    """How often the command was killed, and how it ended at last."""
    command = [sys.executable, killing.__file__, kind, str(n_kills), "7", str(run), *words]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr
    told: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    sys.stdout.write(f"{kind}: {told}\n")
    return told


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_25_kills_inside_checkpoint_writes_end_with_the_same_bytes(
    study: Path, tmp_path: Path, milbench_here: Milbench
) -> None:
    words = run_words(study, "--workers", "1", "--set", "engine.checkpoint_seconds=0", "trainer.epochs=30")
    assert milbench_here(*[word if word != "out" else "whole" for word in words]).returncode == 0
    told = killed(tmp_path, "checkpoint", 25, tmp_path / "out", *words)
    assert told["kills"] == 25
    assert told["half_written"] > 0
    assert (told["code"], told["left"]) == (0, 0)
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    assert not list((tmp_path / "out" / "checkpoints").iterdir())
    assert not list((tmp_path / "out" / "partial").iterdir())
    assert not list((tmp_path / "out" / "claims").iterdir())


def with_survival(study: Path, folder: Path) -> Path:
    """The study's slides with a survival time, grades and a score, in a cohort of their own."""
    labels = pd.read_csv(study / "toy" / "labels.csv", dtype={"case_id": str, "slide_id": str})
    rng = np.random.default_rng(3)
    patients = labels["case_id"].unique()
    of_patient = {
        "os_days": dict(zip(patients, rng.exponential(500, len(patients)).round(1) + 1, strict=True)),
        "os_event": dict(zip(patients, rng.integers(0, 2, len(patients)), strict=True)),
        "grade": dict(zip(patients, rng.choice(["G1", "G2", "G3"], len(patients)), strict=True)),
        "score": dict(zip(patients, rng.normal(10, 3, len(patients)).round(2), strict=True)),
    }
    folder.mkdir()
    labels.assign(**{name: labels["case_id"].map(of) for name, of in of_patient.items()}).to_csv(
        folder / "labels.csv", index=False
    )
    (folder / "cohort.yaml").write_text(
        f"""name: toy
labels: labels.csv
features: {study / "toy" / "features"}
tasks:
  A: {{kind: binary}}
  grade: {{kind: ordinal, classes: [G1, G2, G3]}}
  score: {{kind: regression}}
  os: {{kind: survival, time: os_days, event: os_event, unit: days}}
"""
    )
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("trainer.task_weights=uncertainty",),
        ("trainer.sampler=balanced", "trainer.bag_patches=3", "trainer.label_smoothing=0.1", "trainer.warmup=2.5",
         "trainer.optimizer=adamw"),
    ],
    ids=["usual", "uncertainty", "sampling"],
)  # fmt: skip
def test_10_kills_of_a_survival_run_of_mixed_kinds_end_with_the_same_bytes(
    study: Path, tmp_path: Path, milbench_here: Milbench, more: tuple[str, ...]
) -> None:
    cohort = with_survival(study, tmp_path / "kinds")
    settings = ("engine.checkpoint_seconds=0", "trainer.epochs=20", *more)
    words = ("run", "--run", "out", "--models", "amil", "m4", "--folds", "0", "--no-tracking", "--workers", "1",
             "--set", *settings, "model.amil.hidden=16", "model.m4.hidden=16", "--cohort", str(cohort))  # fmt: skip
    assert milbench_here(*[word if word != "out" else "whole" for word in words]).returncode == 0
    told = killed(tmp_path, "checkpoint", 10, tmp_path / "out", *words)
    assert (told["kills"], told["code"], told["left"]) == (10, 0, 0)
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    (trial,) = [trial for trial in open_run(tmp_path / "out").trials() if trial.info["model"] == "m4"]
    assert trial.info["training_risk"]["os"]["sd"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_25_kills_inside_merges_end_with_the_same_bytes(study: Path, tmp_path: Path, milbench_here: Milbench) -> None:
    folders = []
    for number in (1, 2):
        words = run_words(study, "--workers", "1", "--shard", f"{number}/2")
        folders.append(f"shard{number}")
        assert milbench_here(*[word if word != "out" else folders[-1] for word in words]).returncode == 0
    told = killed(tmp_path, "merge", 25, tmp_path / "out", "merge", "out", *folders)
    assert told["kills"] == 25
    assert (told["code"], told["left"]) == (0, 0)
    assert results(tmp_path / "out") == results(study / "single")
    assert open_run(tmp_path / "out").planned() == open_run(study / "single").planned()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_25_kills_while_a_run_remembers_its_feature_files_end_with_the_same_bytes(
    study: Path, tmp_path: Path, milbench_here: Milbench
) -> None:
    cohort = shutil.copytree(study / "toy", tmp_path / "toy")
    words = (*run_words(study, "--workers", "1")[:-1], str(cohort))
    told = killed(tmp_path, "content", 25, tmp_path / "out", *words)
    assert told["kills"] == 25
    assert told["half_written"] > 0
    assert (told["code"], told["left"]) == (0, 0)
    assert results(tmp_path / "out") == results(study / "single")
    remembered, whole = (read_record(run / "features" / "toy.json") for run in (tmp_path / "out", study / "single"))
    assert remembered.first == whole.first
    files = {slide: cohort / "features" / f"{slide}.h5" for slide in whole.slides}
    assert remembered.slides == contents(files, {})


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["pack", "sources"])
def test_25_kills_inside_packing_end_with_the_same_bytes(study: Path, tmp_path: Path, kind: str) -> None:
    words = ("data", "pack", str(study / "toy"), "--dtype", "float16", "--out")
    assert main([*words, str(tmp_path / "whole")]) == 0
    told = killed(tmp_path, kind, 25, tmp_path / "out", *words, str(tmp_path / "out"))
    assert told["kills"] == 25
    assert told["half_written"] > 0
    assert (told["code"], told["left"]) == (0, 0)
    assert packs(tmp_path / "out") == packs(tmp_path / "whole")
    assert read_record(tmp_path / "out" / "sources.json") == read_record(tmp_path / "whole" / "sources.json")


def packs(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "features").iterdir()}
