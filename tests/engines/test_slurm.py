"""SLURM: settings as it reads them, what is submitted and what comes of it; and packages that are not there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from commands_for_tests import Milbench
from passes_for_tests import passes

from milbench.engines import gpus, loky, slurm
from milbench.engines.pass_result import PassResult
from milbench.engines.settings import PoolSettings
from milbench.engines.slurm import SlurmPool
from milbench.engines.slurm_settings import minutes
from milbench.engines.supervisor import Interrupts
from milbench.errors import MilbenchError, UsageError
from milbench.store import claims
from milbench.trials.job import Job, Status


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90:00", 90),
        ("24:00:00", 1440),
        ("2-0", 2880),
        ("2-12:30", 3630),
        ("0:00:30", 1),
        ("1-0:0:0", 1440),
    ],
)
def test_times_are_read_as_slurm_reads_them(text: str, expected: int) -> None:
    assert minutes(text) == expected


def test_a_time_that_slurm_cannot_read_is_refused() -> None:
    with pytest.raises(UsageError, match="SLURM's notation"):
        minutes("1 day")


@pytest.mark.parametrize(("engine", "package"), [("dask", "distributed"), ("slurm", "submitit")])
def test_a_missing_extra_names_the_command_that_installs_it(
    milbench_here: Milbench, cohort_folder: Path, monkeypatch: pytest.MonkeyPatch, engine: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = milbench_here(
        "run", "--cohort", str(cohort_folder), "--engine", engine, "--models", "amil", "--no-tracking"
    )
    assert result.returncode == 2
    assert f"pip install 'milbench[{engine}]'" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "slurm"), "found no `sbatch`"),
        (("--engine", "slrum"), "Did you mean 'slurm'"),
        (("--gpus", "9"), "this process sees 0 GPUs"),
        (("--shard", "5/4"), "such as 2/4"),
        (("--engine", "dask", "--address", "tcp://127.0.0.1:1", "--gpus", "1"), "one dask worker per GPU instead"),
        (("--per-gpu", "0"), "the least is 1"),
    ],
)
def test_what_cannot_run_is_one_message(
    milbench_here: Milbench, cohort_folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    result = milbench_here("run", "--cohort", str(cohort_folder), "--models", "amil", "--no-tracking", *words)
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr


class EndedJob:
    """A SLURM job that is over and left nothing behind but its log."""

    state = "FAILED"

    def done(self) -> bool:
        return True

    def exception(self) -> Exception:
        return RuntimeError("the node is gone")

    def stderr(self) -> str:
        return "first line\nslurmstepd: error"


class Submits:
    """Stands for submitit: its one job claims `job` on another host, if there is one, and dies."""

    def __init__(self, job: Job | None) -> None:
        self.job = job

    def map_array(self, *_: object) -> list[EndedJob]:
        if self.job:
            with claims.claimed(self.job.run / "claims", self.job.trial.key):
                path = self.job.run / "claims" / f"{self.job.trial.key}.json"
                text = path.read_text()
            path.write_text(json.dumps({**json.loads(text), "host": "node7"}))
        return [EndedJob()]


def slurm_pool(monkeypatch: pytest.MonkeyPatch, run: Path, job: Job | None) -> SlurmPool:
    monkeypatch.setattr(slurm, "make_executor", lambda *_: Submits(job))
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(claims, "SILENT_SECONDS", 0.2)
    return SlurmPool(PoolSettings(run, kind="slurm"), Interrupts(print))


def test_a_trial_whose_slurm_node_died_is_told_as_a_dead_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = passes(tmp_path, 1, 1)
    pool = slurm_pool(monkeypatch, tmp_path / "run", first.first)
    assert list(pool.run(iter([first, second]), alone=False)) == [PassResult(first.jobs, worker_died=True)]
    assert not list((tmp_path / "run" / "claims").iterdir())


def test_slurm_jobs_that_end_without_a_trial_show_their_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = passes(tmp_path, 1)
    with pytest.raises(MilbenchError, match="without a single trial: slurmstepd: error"):
        list(slurm_pool(monkeypatch, tmp_path / "run", None).run(iter([only]), alone=False))


def test_slurm_jobs_are_not_submitted_for_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = passes(tmp_path, 1)
    pool = slurm_pool(monkeypatch, tmp_path / "run", None)
    pool.executor = None  # nothing to submit with
    monkeypatch.setattr(slurm._Watched, "_ended", lambda _, job: Status(job, "done", 1.0))
    already = PassResult(only.jobs, [Status(only.first, "already", 1.0)])
    assert list(pool.run(iter([only]), alone=False)) == [already]


def test_a_slurm_job_computes_no_trial_in_its_own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = passes(tmp_path, 1)
    settings = PoolSettings(tmp_path / "run", workers=1)
    in_workers: list[int] = []
    monkeypatch.setattr(
        loky.LokyPool, "_run_in_workers", lambda _, *running: in_workers.append(running[-1]) or iter(())
    )
    monkeypatch.setattr(loky, "compute_here", lambda each, _: [Status(job, "done", 0.0) for job in each.jobs])
    assert len(list(loky.LokyPool(settings).run(iter([only]), alone=False))) == 1
    assert in_workers == []
    assert list(loky.LokyPool(settings, may_compute_here=False).run(iter([only]), alone=False)) == []
    assert in_workers == [1]


@pytest.mark.parametrize(
    ("slurm_settings", "width", "on_gpu"),
    [
        ({"jobs": "8"}, 8, False),
        ({"jobs": "8", "gpus": "1"}, 8, True),
        ({"gpus": "8"}, 8, True),
        ({"jobs": "2", "gpus": "a100:4"}, 8, True),
        ({"gres": "gpu:a100:1"}, 1, True),
        ({"additional_parameters": {"gres": "gpu:1"}}, 1, True),
        ({"partition": "cpu"}, 1, False),
    ],
)
def test_gpus_that_slurm_is_asked_for_are_counted(slurm_settings: dict[str, Any], width: int, on_gpu: bool) -> None:
    settings = PoolSettings(Path("run"), kind="slurm", slurm=slurm_settings)
    assert (settings.width, settings.on_gpu) == (width, on_gpu)
