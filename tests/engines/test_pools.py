"""Pools: signals, clocks, and clusters without workers or scheduler."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from passes_for_tests import passes

from milbench.engines import alarm, loky
from milbench.engines.dask import DaskPool
from milbench.engines.settings import PoolSettings
from milbench.engines.supervisor import Interrupts
from milbench.errors import MilbenchError
from milbench.store import claims
from milbench.trials.job import Status


def test_a_message_that_nobody_reads_any_more_hinders_no_stop() -> None:
    def broken_pipe(_: str) -> None:
        raise SystemExit(1)  # as rich does

    interrupts = Interrupts(broken_pipe)
    interrupts(2, None)
    assert interrupts.requested


def test_seconds_of_computing_are_told_while_the_workers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that shows the progress asks at any time."""
    monkeypatch.setattr(loky.LokyPool, "has_workers", True)
    monkeypatch.setattr(loky.LokyPool, "executor", None)
    assert loky.computed_seconds() > 0


def test_a_clock_that_jumps_ends_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = passes(tmp_path, 1)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    path = only.first.run / "claims" / f"{only.first.trial.key}.json"
    with claims.claimed(path.parent, only.first.trial.key):
        text = json.loads(path.read_text())
    born = psutil.Process(child.pid).create_time()
    path.write_text(json.dumps({**text, "pid": child.pid, "born": born, "since": time.time() - 8 * 3600}))
    overdue, now = alarm.Overdue(600), time.monotonic()
    overdue.end(only)
    assert child.poll() is None
    monkeypatch.setattr(alarm.time, "monotonic", lambda: now + 700)
    overdue.end(only)
    assert child.wait(timeout=30) == -signal.SIGKILL
    assert alarm.hang_trace(only.first).startswith("Timeout")


def test_loky_still_has_the_switch_that_keeps_workers_with_features_alive() -> None:
    assert isinstance(loky.process_executor._MEMORY_LEAK_CHECK_DELAY, float)


class NoWorkers:
    def nthreads(self) -> dict[str, int]:
        return {}


class GoneScheduler:
    def nthreads(self) -> dict[str, int]:
        raise OSError("Timed out")


def test_a_dask_cluster_without_workers_is_waited_for_until_ctrl_c(tmp_path: Path) -> None:
    told: list[str] = []

    def told_and_stopped(text: str) -> None:
        told.append(text)
        interrupts.requested = True

    interrupts = Interrupts(told_and_stopped)
    settings = PoolSettings(tmp_path / "run", kind="dask", address="tcp://h:1")
    pool = DaskPool(NoWorkers(), settings, interrupts)
    assert list(pool.run(iter(passes(tmp_path, 1)), alone=False)) == []
    assert told == ["waiting: tcp://h:1 has no workers yet."]


def test_a_dask_scheduler_that_is_gone_is_one_message(tmp_path: Path) -> None:
    pool = DaskPool(GoneScheduler(), PoolSettings(tmp_path / "run", kind="dask"), Interrupts(print))
    with pytest.raises(MilbenchError, match="the dask scheduler is gone"):
        list(pool.run(iter(passes(tmp_path, 1)), alone=False))


@pytest.mark.parametrize("reason", ["Read-only file system", "No space left on device"])
def test_without_worker_processes_all_passes_are_computed_here_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(28, reason)

    said: list[str] = []
    monkeypatch.setattr(loky, "get_reusable_executor", refuse)
    monkeypatch.setattr(loky, "compute_here", lambda each, _: [Status(job, "done", 0.0) for job in each.jobs])
    pool = loky.LokyPool(PoolSettings(tmp_path / "run", workers=2, trial_seconds=9.0), announce=said.append)
    todo = passes(tmp_path, 1, 1, 1)
    assert len(list(pool.run(iter(todo), alone=False))) == 3
    assert len(list(pool.run(iter(todo), alone=True))) == 3
    assert len(said) == 1
    assert reason in said[0]
    assert "/dev/shm" in said[0]
    assert pool.settings.trial_seconds == 0, "the alarm would end this process"
    loky.end_workers()
