"""Runs that are killed, interrupted, shared or that hold misbehaving models; always through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from commands_for_tests import FAST, Milbench, command, environment

RUN = ("run", "--run", "out", *FAST)


def predictions(run: Path) -> dict[str, bytes]:
    """The bytes of every finished trial's predictions and weights."""
    return {
        f"{path.parent.relative_to(run)}/{path.name}": path.read_bytes()
        for pattern in ("predictions.parquet", "model.safetensors", "history.parquet")
        for path in run.glob(f"trials/*/*/*/*/{pattern}")
    }


def wait_for(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.05)


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def n_done(run: Path) -> int:
    return len(list(run.glob("trials/*/*/*/*/trial.json")))


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_workers(
    tmp_path: Path, cohort_folder: Path, milbench: Milbench
) -> None:
    for workers in ("1", "2"):
        words = ("--models", "tiny", "tiny_multi", "--cohort", str(cohort_folder), "--workers", workers)
        result = milbench("run", "--run", f"out{workers}", *FAST, *words)
        assert result.returncode == 0, result.stdout + result.stderr
    first, second = predictions(tmp_path / "out1"), predictions(tmp_path / "out2")
    assert len(first) == 3 * 5 * 3
    assert first == second


@pytest.mark.slow
def test_a_run_killed_in_the_middle_ends_with_the_same_bytes(
    tmp_path: Path, cohort_folder: Path, milbench: Milbench
) -> None:
    words = ("--models", "slow", "tiny", "--cohort", str(cohort_folder), "--workers", "2")
    whole = milbench("run", "--run", "whole", *FAST, *words)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    kills = 0
    for already in (1, 4):
        process = start(tmp_path, *RUN, *words)
        wait_for(lambda n=already, p=process: n_done(tmp_path / "out") >= n or p.poll() is not None)
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills == 2, "the run was over before it could be killed"
    assert n_done(tmp_path / "out") < 20
    resumed = milbench(*RUN, *words)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "trials done before" in resumed.stdout
    assert predictions(tmp_path / "out") == predictions(tmp_path / "whole")


def test_a_finished_run_computes_nothing_again(tmp_path: Path, cohort_folder: Path, milbench: Milbench) -> None:
    words = ("--models", "tiny", "--cohort", str(cohort_folder), "--folds", "0", "--workers", "1")
    milbench(*RUN, *words)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("trials/**/trial.json")}
    again = milbench(*RUN, *words)
    assert again.returncode == 0
    assert "2 trials done before" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("trials/**/trial.json")} == times


@pytest.mark.slow
def test_a_damaged_trial_is_computed_again_to_the_same_bytes(
    tmp_path: Path, cohort_folder: Path, milbench: Milbench
) -> None:
    words = ("--models", "tiny", "--cohort", str(cohort_folder), "--folds", "0", "--workers", "1")
    milbench(*RUN, *words)
    before = predictions(tmp_path / "out")
    next(iter((tmp_path / "out").glob("trials/*/*/A/*/predictions.parquet"))).write_bytes(b"half a file")
    assert "1 trials done, 1 trials done before" in milbench(*RUN, *words).stdout
    assert predictions(tmp_path / "out") == before


def test_models_that_raise_or_exit_are_recorded_and_the_rest_goes_on(
    tmp_path: Path, cohort_folder: Path, milbench: Milbench
) -> None:
    words = ("--models", "tiny", "raises", "exits", "explodes", "--cohort", str(cohort_folder), "--folds", "0")
    result = milbench(*RUN, *words, "--workers", "1")
    assert result.returncode == 3
    assert "2 trials done, 6 trials failed" in result.stdout
    records = [json.loads(path.read_text()) for path in (tmp_path / "out" / "failures").iterdir()]
    assert {record["type"] for record in records} == {"ValueError", "SystemExit", "MilbenchError"}
    assert any("on purpose" in record["traceback"] for record in records)


@pytest.mark.slow
def test_a_killed_worker_takes_no_finished_or_innocent_trial_with_it(
    tmp_path: Path, cohort_folder: Path, milbench: Milbench
) -> None:
    words = ("--models", "killed", "tiny", "--cohort", str(cohort_folder), "--folds", "0", "1", "--workers", "2")
    result = milbench(*RUN, *words)
    assert result.returncode == 3, result.stdout + result.stderr
    assert "4 trials done, 4 trials failed" in result.stdout
    assert "killed twice" in result.stdout


@pytest.mark.slow
def test_two_runs_in_one_folder_share_the_work(tmp_path: Path, cohort_folder: Path) -> None:
    words = (*RUN, "--models", "slow", "--cohort", str(cohort_folder), "--workers", "1")
    processes = [start(tmp_path, *words) for _ in range(2)]
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert n_done(tmp_path / "out") == 10
    computed = [
        int(line.split(" trials done")[0])
        for text in outputs
        for line in text.splitlines()
        if " trials done," in line or line.endswith(" trials done")
    ]
    assert sum(computed) == 10, outputs
    assert any(
        f"another command computes trials in out (process {pid} on" in text for pid, text in _others(processes, outputs)
    )


def _others(processes: list[subprocess.Popen[str]], outputs: list[str]) -> list[tuple[int, str]]:
    """The process of each command, with what the other one said."""
    return [(processes[0].pid, outputs[1]), (processes[1].pid, outputs[0])]


@pytest.mark.parametrize(
    ("workers", "number", "engine"),
    [
        pytest.param("1", signal.SIGINT, "loky", marks=pytest.mark.slow),
        ("2", signal.SIGINT, "loky"),
        pytest.param("2", signal.SIGTERM, "loky", marks=pytest.mark.slow),
        pytest.param("2", signal.SIGINT, "dask", marks=pytest.mark.slow),
        pytest.param("2", signal.SIGTERM, "dask", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_finishes_what_is_in_flight_and_leaves_a_clean_run(
    tmp_path: Path, cohort_folder: Path, workers: str, number: int, engine: str
) -> None:
    """The signal goes to every process of the group, as a terminal, `timeout` and batch systems send it."""
    words = ("--models", "slow", "--cohort", str(cohort_folder), "--workers", workers, "--engine", engine)
    process = start(tmp_path, *RUN, *words)
    wait_for(lambda: n_done(tmp_path / "out") >= 1)
    in_flight = {path.stem for path in (tmp_path / "out" / "claims").glob("*.json")}
    os.killpg(process.pid, number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "the same command again: milbench goes on from here" in output
    assert "the running trials are finished first" in output
    assert "Traceback" not in output
    assert "trials left" in output
    assert 1 <= n_done(tmp_path / "out") < 10
    done = {json.loads(path.read_text())["key"] for path in (tmp_path / "out").glob("trials/*/*/*/*/trial.json")}
    assert in_flight <= done
    assert not list((tmp_path / "out" / "partial").iterdir())
    assert not list((tmp_path / "out" / "failures").iterdir())


@pytest.mark.slow
def test_ctrl_c_while_workers_start_is_no_crash(tmp_path: Path, cohort_folder: Path) -> None:
    process = start(tmp_path, *RUN, "--models", "slow", "--cohort", str(cohort_folder), "--workers", "2")
    started = psutil.Process(process.pid)
    wait_for(lambda: len(started.children(recursive=True)) >= 2)  # loky's tracker and the first worker
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "Fatal Python error" not in output
    assert not list((tmp_path / "out" / "failures").iterdir())


PEAK_IN_A_FRESH_PROCESS = """
import numpy, torch
from milbench.machine.peak_memory import forget_peak, peak_bytes
cpu = torch.device("cpu")
before = peak_bytes(cpu)
big = numpy.ones(40_000_000)
with_big = peak_bytes(cpu)
del big
print(forget_peak(), with_big - before, peak_bytes(cpu) - before)
"""


def test_peak_memory_is_the_trials_own_where_the_system_lets_it_be_reset() -> None:
    """In a process of its own: this one's peak may lie beyond 320 MB more, and a sandbox may forbid the reset."""
    words = [sys.executable, "-c", PEAK_IN_A_FRESH_PROCESS]
    reset, with_big, after = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert 300e6 < int(with_big) < 400e6
    assert (int(after) < 100e6) == (reset == "True")
