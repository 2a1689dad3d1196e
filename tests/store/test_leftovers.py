"""What a killed process leaves is told apart from what a living one writes, and goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands_for_tests import Milbench
from runs_for_tests import make_run

from milbench.store.claims import claimed
from milbench.store.files import temporary_name, this_host
from milbench.store.leftovers import SILENT_SECONDS, leftovers
from milbench.store.run import Run
from milbench.store.run_folder import FOLDERS
from milbench.store.run_writing import sweep


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run", models=("amil",), folds=(0,))


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_dead_process_was_writing_is_left_over_and_what_a_living_one_writes_is_not(run: Run) -> None:
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / temporary_name(".mine.safetensors")).write_bytes(b"half")
    (run.path / "partial" / temporary_name("k" * 64)).mkdir()
    assert leftovers(run.path) == []
    dead = dead_process()
    names = [
        f"checkpoints/.a.safetensors-{this_host()}-{dead}-0123456789ab",
        f".plan.json-{this_host()}-{dead}-0123456789ab",
    ]
    for name in names:
        (run.path / name).write_bytes(b"half")
    folder = run.path / "partial" / f"{'k' * 64}-{this_host()}-{dead}-0123456789ab"
    folder.mkdir()
    (folder / "history.parquet").write_bytes(b"half")
    assert leftovers(run.path) == sorted([*(run.path / name for name in names), folder])
    sweep(run)
    assert leftovers(run.path) == []
    assert len(list((run.path / "checkpoints").iterdir())) == len(list((run.path / "partial").iterdir())) == 1


@pytest.mark.parametrize("folder", sorted({*FOLDERS} - {"trials", "locks"}))  # there nothing is written by a rename
def test_half_of_a_file_is_left_over_in_every_folder_of_a_run(run: Run, folder: str) -> None:
    half = run.path / folder / f".a.json-{this_host()}-{dead_process()}-0123456789ab"
    half.parent.mkdir(exist_ok=True)
    half.write_bytes(b"half")
    assert leftovers(run.path) == [half]


def test_another_machines_half_written_file_is_left_over_after_a_day(run: Run) -> None:
    path = run.path / f".plan.json-00000000-{os.getpid()}-0123456789ab"
    path.write_bytes(b"half")
    assert leftovers(run.path) == []
    long_ago = time.time() - SILENT_SECONDS - 60
    os.utime(path, (long_ago, long_ago))
    assert leftovers(run.path) == [path]


def test_a_claim_of_a_dead_process_is_left_over_and_one_of_a_living_is_not(run: Run) -> None:
    claims = run.path / "claims"
    with claimed(claims, "alive"):
        dead = {**json.loads((claims / "alive.json").read_text()), "key": "dead", "pid": dead_process()}
        (claims / "dead.json").write_text(json.dumps(dead))
        assert leftovers(run.path) == [claims / "dead.json"]


def test_no_file_of_a_whole_run_is_taken_for_a_leftover(run: Run) -> None:
    assert leftovers(run.path) == []


def test_status_shows_what_a_dead_process_left_with_the_command_that_deletes_it(
    run: Run, milbench_here: Milbench
) -> None:
    (run.path / f".plan.json-{this_host()}-{dead_process()}-0123456789ab").write_bytes(b"half")
    said = " ".join(milbench_here("status", str(run.path)).stdout.split())
    assert f"left by processes that died: 1 files and folders, 4 B. `milbench run --config {run.path}/run.yaml" in said
