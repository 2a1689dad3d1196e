"""Many processes and machines: the same bytes as one process alone, nothing lost, nothing twice, whatever goes wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from commands_for_tests import FAST, Milbench, command, environment
from studies_for_tests import WORDS, n_done, results, run_words, start, wait_for

from milbench.store.run import Run, open_run
from milbench.store.run_writing import claim, write_header

N_TRIALS = 6


def printed(number_of: str, text: str) -> int:
    """N of "N trials done" and the like, as the closing line says."""
    return sum(int(n) for n in re.findall(rf"(\d+) trials {number_of}(?=,|$)", text, re.MULTILINE))


def claiming(run: Path) -> list[dict[str, Any]]:
    """What the claims say right now."""
    found = []
    for path in run.glob("claims/*.json"):
        try:
            found.append(json.loads(path.read_text()))
        except (OSError, ValueError):
            continue
    return found


TWO_LOCAL_JOBS = (
    "--engine", "slurm", "--workers", "1", "--set", "engine.slurm.jobs=2", "engine.slurm.cluster=local",
)  # fmt: skip


# ---- tried for real ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker_ends_with_the_same_bytes(study: Path, tmp_path: Path) -> None:
    process = start(tmp_path, *run_words(study, "--engine", "dask", "--workers", "2"))
    out = tmp_path / "out"
    wait_for(lambda: n_done(out) >= 1 and claiming(out), process)
    os.kill(claiming(out)[0]["pid"], signal.SIGKILL)
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    assert printed("done", output) == N_TRIALS, output
    assert results(out) == results(study / "single")


@pytest.mark.slow
def test_a_running_dask_scheduler_can_be_joined(study: Path, tmp_path: Path) -> None:
    code = (
        "import sys, distributed\n"
        "if __name__ == '__main__':\n"
        "    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:\n"
        "        print(cluster.scheduler_address, flush=True)\n"
        "        sys.stdin.read()\n"
    )
    (tmp_path / "cluster.py").write_text(code)
    words = [sys.executable, str(tmp_path / "cluster.py")]
    with subprocess.Popen(
        words, env=environment(), cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as cluster:
        assert cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        process = start(tmp_path, *run_words(study, "--engine", "dask", "--address", address))
        output = process.communicate(timeout=180)[0]
        cluster.communicate("", timeout=60)
    assert process.returncode == 0, output
    assert results(tmp_path / "out") == results(study / "single")


@pytest.mark.slow
def test_submitits_local_jobs_end_with_the_same_bytes_and_show_progress(study: Path, tmp_path: Path) -> None:
    process = start(tmp_path, *run_words(study, *TWO_LOCAL_JOBS))
    out = tmp_path / "out"
    wait_for(lambda: n_done(out) >= 1, process)
    status = subprocess.run(command("status", "out"), cwd=tmp_path, env=environment(), capture_output=True, text=True)
    output = process.communicate(timeout=180)[0]
    assert status.returncode == 0, status.stderr
    assert process.returncode == 0, output
    assert printed("done", output) == N_TRIALS, output
    assert results(out) == results(study / "single")
    assert not list((out / "slurm").glob("stop-*"))


@pytest.mark.slow
def test_a_slurm_job_that_dies_costs_only_what_it_had_in_flight(study: Path, tmp_path: Path) -> None:
    process = start(tmp_path, *run_words(study, *TWO_LOCAL_JOBS))
    out = tmp_path / "out"
    wait_for(lambda: n_done(out) >= 1 and claiming(out), process)
    os.kill(claiming(out)[0]["pid"], signal.SIGKILL)
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    assert printed("done", output) == N_TRIALS, output
    assert results(out) == results(study / "single")


@pytest.mark.slow
def test_four_shards_run_as_four_processes_merge_into_the_same_bytes(
    study: Path, tmp_path: Path, milbench: Milbench
) -> None:
    words = (*WORDS, "--cohort", str(study / "toy"), "--workers", "1")
    processes = [start(tmp_path, "run", *words, "--shard", f"{number}/4") for number in (1, 2, 3, 4)]
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert sum(printed("done", output) for output in outputs) == N_TRIALS
    folders = sorted(str(path) for path in (tmp_path / "runs").glob("toy-*-shard-*-of-4"))
    assert len(folders) == 4
    refused = milbench("merge", "out", *folders[:3])
    assert refused.returncode == 2
    assert "shard 4/4 is missing" in refused.stderr
    merged = milbench("merge", "out", *folders)
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert results(tmp_path / "out") == results(study / "single")
    assert open_run(tmp_path / "out").planned() == open_run(study / "single").planned()


@pytest.mark.slow
def test_two_processes_on_one_folder_end_with_the_same_bytes_and_do_nothing_twice(study: Path, tmp_path: Path) -> None:
    processes = [start(tmp_path, *run_words(study, "--workers", "1")) for _ in range(2)]
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum(printed("done", output) for output in outputs) == N_TRIALS, outputs
    assert results(tmp_path / "out") == results(study / "single")


# ---- bad luck ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_killed_by_sigkill_costs_nothing_but_time(study: Path, tmp_path: Path) -> None:
    process = start(tmp_path, *run_words(study, "--workers", "2"))
    out = tmp_path / "out"
    wait_for(lambda: n_done(out) >= 1 and claiming(out), process)
    os.kill(claiming(out)[0]["pid"], signal.SIGKILL)
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    assert printed("done", output) == N_TRIALS, output
    assert results(out) == results(study / "single")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "engine"), [("hangs", "loky"), ("hangs_in_c", "loky"), ("stops", "loky"), ("hangs", "dask")]
)
def test_a_trial_that_hangs_is_stopped_and_recorded_and_the_run_goes_on(
    tmp_path: Path, study: Path, milbench: Milbench, model: str, engine: str
) -> None:
    words = ("--models", model, "tiny_multi", "--cohort", str(study / "one_task.yaml"), "--folds", "0")
    # long enough for a busy machine to import what the first trial of a process needs
    limits = ("--engine", engine, "--workers", "1", "--trial-timeout", "20")
    result = milbench("run", "--run", "out", *words, *FAST, *limits)
    assert result.returncode == 3, result.stdout + result.stderr
    assert printed("done", result.stdout) == 1
    assert printed("failed", result.stdout) == 1
    (record,) = open_run(tmp_path / "out").failures()
    assert record["type"] == "TimeoutError"
    if model != "stops":
        assert "in forward" in record["traceback"], "the record says where it hung"
    left = [p for p in psutil.process_iter(["cmdline", "cwd"]) if p.info["cwd"] == str(tmp_path)]
    assert left == [], "no process of the run may outlive it"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["loky", "dask"])
def test_a_second_ctrl_c_stops_at_once_whatever_trials_are_at(tmp_path: Path, study: Path, engine: str) -> None:
    words = ("--models", "hangs", "--cohort", str(study / "toy"), "--folds", "0", *FAST, "--workers", "2")
    process = start(tmp_path, "run", "--run", "out", *words, "--engine", engine, "--stack", "off")
    wait_for(lambda: len(claiming(tmp_path / "out")) == 2, process)
    time.sleep(2)  # from the claim on, a trial needs a moment to come to its model
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]  # a trial takes an hour
    assert process.returncode == 130, output
    assert "finished trials are kept" in output
    assert "Traceback" not in output
    left = [p for p in psutil.process_iter(["cmdline", "cwd"]) if p.info["cwd"] == str(tmp_path)]
    assert left == [], "no process of the run may outlive it"


def test_a_model_that_always_fails_is_given_up(tmp_path: Path, study: Path, milbench_here: Milbench) -> None:
    words = ("--models", "raises", "tiny_multi", "--cohort", str(study / "toy"), *FAST, "--workers", "1")
    result = milbench_here("run", "--run", "out", *words, "--max-failures", "2")
    assert result.returncode == 3
    assert "5 trials done, 2 trials failed, 8 trials skipped (see --max-failures)" in result.stdout
    again = milbench_here("run", "--run", "out", *words)
    assert "10 trials failed" in again.stdout, "what was skipped is not done, and is tried again"


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_the_same_command_goes_on(
    tmp_path: Path, study: Path, milbench_here: Milbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = run_words(study, "--workers", "1")
    write, written = pd.DataFrame.to_parquet, []

    def to_a_small_disk(table: pd.DataFrame, path: Path, **options: Any) -> None:
        written.append(path)
        if len(written) > 5:  # the third trial's predictions are the fifth file, its history is half there
            Path(path).write_bytes(b"PAR1")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(table, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", to_a_small_disk)
        full = milbench_here(*words)
    assert full.returncode == 2
    assert "No space left on device" in full.stderr
    assert "give the same command again" in full.stderr
    assert n_done(tmp_path / "out") == 2
    assert not list((tmp_path / "out" / "partial").iterdir())
    assert milbench_here(*words).returncode == 0
    assert results(tmp_path / "out") == results(study / "single")


def test_a_claim_that_cannot_be_written_hinders_nobody(tmp_path: Path, study: Path, milbench_here: Milbench) -> None:
    words = run_words(study, "--workers", "1", "--set", "trainer.epochs=1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "claims").write_text("no folder")
    assert milbench_here(*words).returncode == 0


@pytest.mark.slow
def test_a_tracking_server_that_is_gone_costs_a_warning(study: Path, tmp_path: Path, milbench_here: Milbench) -> None:
    words = [word for word in run_words(study, "--workers", "1") if word != "--no-tracking"]
    result = milbench_here(*words, "--tracking-uri", "http://127.0.0.1:9")
    assert result.returncode == 0, result.stderr
    assert "MLflow at http://127.0.0.1:9 could not be written" in result.stdout
    assert "milbench track" in result.stdout
    assert results(tmp_path / "out") == results(study / "single")


HOLDS_A_TRIAL = """
import sys, time
from pathlib import Path
from milbench.store.run import Run
from milbench.store.run_writing import claim
with claim(Run(Path(sys.argv[1])), sys.argv[2]) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_a_lock_left_by_a_dead_process_holds_nobody_up(study: Path, tmp_path: Path, milbench_here: Milbench) -> None:
    run = Run(tmp_path / "out")
    write_header(run, {}, {}, {}, {})
    (tmp_path / "out" / "run.yaml").unlink()
    key = json.loads(next((study / "single").glob("trials/*/slow/A/fold0*/trial.json")).read_text())["key"]
    words = [sys.executable, "-c", HOLDS_A_TRIAL, str(run.path), key]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert not _claimed_here(run, key)
        holder.kill()
    assert (run.path / "locks" / f"{key}.lock").exists()
    assert (run.path / "claims" / f"{key}.json").exists()
    assert milbench_here(*run_words(study, "--workers", "1")).returncode == 0
    assert results(tmp_path / "out") == results(study / "single")
    assert not list((run.path / "claims").iterdir())


def _claimed_here(run: Run, key: str) -> bool:
    with claim(run, key) as mine:
        return mine


def test_shards_with_different_configurations_are_refused(study: Path, tmp_path: Path, milbench_here: Milbench) -> None:
    words = ("run", "--models", "tiny", "--folds", "0", "--cohort", str(study / "toy"), "--workers", "1", *FAST)
    for number, rate in (("1", "0.01"), ("2", "0.02")):
        assert milbench_here(*words, f"trainer.lr={rate}", "--run", number, "--shard", f"{number}/2").returncode == 0
    result = milbench_here("merge", "out", "1", "2")
    assert result.returncode == 2
    assert "was run with other settings" in result.stderr
    assert "'lr': 0.01" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_folder_from_an_older_version_goes_on(study: Path, tmp_path: Path, milbench_here: Milbench) -> None:
    """As milbench 0.1.0 first left them: no claims, no format number, fewer settings of the engine."""
    words = run_words(study, "--workers", "1")
    assert milbench_here(*words).returncode == 0
    out = tmp_path / "out"
    (out / "claims").rmdir()
    config = (out / "run.yaml").read_text()
    old = re.sub(r"engine:\n(  .*\n)+", "engine:\n  workers: 1\n  threads: 1\n  device: auto\n", config)
    assert old != config
    (out / "run.yaml").write_text(old)
    recorded = json.loads((out / "environment.json").read_text())
    del recorded["run_format"]
    (out / "environment.json").write_text(json.dumps(recorded))
    assert milbench_here("status", "out").returncode == 0
    again = milbench_here(*words)
    assert again.returncode == 0, again.stderr
    assert printed("done before", again.stdout) == N_TRIALS


# ---- GPUs and status -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["loky", "dask"])
def test_every_worker_sees_one_gpu_and_each_gpu_has_its_workers(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Placement only: the devices are names, and the models compute on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,9")
    monkeypatch.setenv("MILBENCH_TELLS", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    words = ("--models", "tells", "--cohort", str(study / "toy"), "--engine", engine, "--device", "cpu")
    process = start(tmp_path, "run", "--run", "out", *words, *FAST, "--gpus", "0,2", "--per-gpu", "1")
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    assert "2 workers on" in output
    seen = [path.name.split("-")[0] for path in tmp_path.glob("*-*") if path.name[0] in "579"]
    # the command itself and what estimates its time build models too, and see what the user sees
    assert sorted(each for each in seen if each != "5,7,9") == ["5", "9"]


@pytest.mark.slow
def test_status_tells_who_is_at_work_while_a_run_goes_on(study: Path, tmp_path: Path, milbench_here: Milbench) -> None:
    process = start(tmp_path, *run_words(study, "--workers", "1", "--folds", "0-4"))
    out = tmp_path / "out"
    wait_for(lambda: n_done(out) >= 1 and claiming(out), process)
    result = milbench_here("status", "out")
    process.kill()
    process.communicate()
    assert result.returncode == 0
    assert f"process {process.pid}, for 0 s" in result.stdout or f"process {process.pid}, for 1 s" in result.stdout
    dead = milbench_here("status", "out")
    assert f"process {process.pid}" not in dead.stdout, "a dead process is not at work"
