"""Run folders of earlier versions are read as they were written; each was made by the commit that tests/golden/README.md names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from commands_for_tests import Milbench
from places import GOLDEN

from milbench.runs.merge import merge
from milbench.runs.status import survey
from milbench.store.run import RUN_FORMAT, open_run
from milbench.store.run_folder import ENVIRONMENT
from milbench.trials.plan import IDENTITY_FORMAT

FOLDERS = sorted(path.parent for path in (GOLDEN / "runs").glob("*/run.yaml"))
N_TRIALS = 3
MOST_BYTES = 200_000

every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A run folder as a milbench of tomorrow may write it."""
    folder = tmp_path / "newer"
    shutil.copytree(FOLDERS[0], folder)
    environment = json.loads((folder / ENVIRONMENT).read_text())
    environment |= {"run_format": RUN_FORMAT + 1, "milbench": "7.0"}
    (folder / ENVIRONMENT).write_text(json.dumps(environment))
    return folder


def formats_of(folder: Path) -> set[tuple[int, int]]:
    """Format of the folder and of the identities of its trials."""
    of_folder = json.loads((folder / ENVIRONMENT).read_text()).get("run_format", 0)
    records = (folder / "trials").glob("*/*/*/*/trial.json")
    return {(of_folder, json.loads(record.read_text())["format"]) for record in records}


def test_a_folder_of_each_format_there_was_is_kept() -> None:
    """If this fails, a format was raised: make a run as tests/golden/README.md says, and commit it beside the others."""
    found = {formats for folder in FOLDERS for formats in formats_of(folder)}
    assert found >= {(0, 1), (1, 1), (1, 2), (RUN_FORMAT, IDENTITY_FORMAT)}


@every_folder
def test_a_kept_folder_is_small(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*")) < MOST_BYTES


@every_folder
def test_every_trial_of_an_earlier_version_counts_as_done(folder: Path) -> None:
    run = open_run(folder)
    found = survey(run)
    assert sum(count.done for count in found.counts.values()) == N_TRIALS
    assert not found.damaged
    assert not found.stale
    assert len(run.trials()) == N_TRIALS, "checksums agree"


@every_folder
def test_predictions_of_an_earlier_version_are_those_in_its_files(folder: Path) -> None:
    run = open_run(folder)
    read = run.predictions().sort_values(["model", "task", "role", "slide_id"])
    tables = [pd.read_parquet(path) for path in sorted((folder / "trials").rglob("predictions.parquet"))]
    stored = pd.concat(tables)
    assert len(read) == len(stored)
    assert sorted(read["probability"]) == sorted(stored["probability"])
    assert (
        read.groupby(["model", "role", "task"])
        .size()
        .eq(read.groupby(["model", "role", "task"])["slide_id"].nunique())
        .all()
    )
    assert set(run.histories()["epoch"]) == {0, 1}
    assert set(run.roles("toy").columns) > {"patient_id", "fold_0"}


@every_folder
def test_a_run_of_an_earlier_version_can_be_merged(folder: Path, tmp_path: Path) -> None:
    merged = merge(tmp_path / "whole", [folder])
    assert (merged.n_trials, merged.damaged, merged.conflicts, merged.left) == (N_TRIALS, (), (), 0)


def test_trials_of_two_formats_of_identity_are_not_merged(milbench_here: Milbench, tmp_path: Path) -> None:
    old, new = (next(f for f in FOLDERS if formats_of(f) == {wanted}) for wanted in ((1, 1), (1, 2)))
    result = milbench_here("merge", str(tmp_path / "whole"), str(old), str(new))
    assert result.returncode == 2
    assert "planned two different trials" in result.stderr
    assert "another version" in result.stderr


@pytest.mark.parametrize("command", ["status", "report", "merge"])
def test_a_folder_of_a_newer_format_is_refused_with_what_to_do(
    milbench_here: Milbench, newer: Path, tmp_path: Path, command: str
) -> None:
    words = [str(tmp_path / "whole"), str(newer)] if command == "merge" else [str(newer)]
    result = milbench_here(command, *words)
    assert result.returncode == 2
    assert "was written by milbench 7.0, whose run folders this version cannot read" in result.stderr
    assert "Update milbench" in result.stderr
    assert not (tmp_path / "whole").exists()


@pytest.mark.slow
@every_folder
def test_a_run_of_an_earlier_version_has_a_report(folder: Path, tmp_path: Path, milbench_here: Milbench) -> None:
    shutil.copytree(folder, tmp_path / "runs" / "toy")
    result = milbench_here("report", "runs/toy", "--no-tracking", "--draws", "100")
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "reports" / "toy" / "table2.csv")
    assert set(table["title"]) >= {"Mean pooling", "M4"}
