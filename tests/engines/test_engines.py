"""Engines: what is decided before any process starts, and how the books are kept whatever the pool does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from passes_for_tests import passes, trials
from trial_for_tests import TRIAL

from milbench.datasets.source import CohortSource
from milbench.engines import gpus
from milbench.engines.pass_result import PassResult
from milbench.engines.shards import Shard, groups_of_shard, parse_shard
from milbench.engines.supervisor import execute
from milbench.errors import UsageError
from milbench.store import claims
from milbench.store.run import Run
from milbench.store.run_writing import write_header
from milbench.trials.job import DataPass, Job, JobGroup, Status


class Halt:
    requested = False


class FakePool:
    """Kills the process of every pass with a trial in `deadly`, fails those of `failing`, and remembers what it ran."""

    def __init__(self, deadly: tuple[int, ...] = (), failing: tuple[int, ...] = ()) -> None:
        self.deadly, self.failing = deadly, failing
        self.ran: list[tuple[tuple[int, ...], bool]] = []

    def run(self, passes: Iterator[DataPass], *, alone: bool) -> Iterator[PassResult]:
        for data_pass in passes:
            folds = tuple(job.trial.fold for job in data_pass.jobs)
            self.ran.append((folds, alone))
            if set(folds) & set(self.deadly):
                yield PassResult(data_pass.jobs, worker_died=True)
            else:
                yield PassResult(data_pass.jobs, [self.ended(job) for job in data_pass.jobs])

    def ended(self, job: Job) -> Status:
        return Status(job, "failed" if job.trial.fold in self.failing else "done", 0)


def states(statuses: Iterator[Status]) -> dict[int, str]:
    return {status.job.trial.fold: status.state for status in statuses}


def test_a_pass_killed_twice_is_divided_and_only_the_deadly_trial_is_blamed(tmp_path: Path) -> None:
    pool = FakePool(deadly=(1,))
    assert states(execute(passes(tmp_path, 3, 2), pool, Halt())) == {
        0: "done", 1: "failed", 2: "done", 3: "done", 4: "done",
    }  # fmt: skip
    assert pool.ran == [
        ((0, 1, 2), False),
        ((3, 4), False),
        ((0, 1, 2), True),
        ((0,), True),
        ((1,), True),
        ((2,), True),
    ]
    assert "killed twice" in Run(tmp_path / "run").failure(trials(2)[1].key)["message"]


def test_a_pass_that_was_killed_by_chance_is_tried_again_as_it_was(tmp_path: Path) -> None:
    """Divided, its stacks would end with other last digits than those of a run that nobody killed."""

    class KilledOnce(FakePool):
        def run(self, passes: Iterator[DataPass], *, alone: bool) -> Iterator[PassResult]:
            for result in super().run(passes, alone=alone):
                yield result if alone else PassResult(result.jobs, worker_died=True)

    pool = KilledOnce()
    assert set(states(execute(passes(tmp_path, 3, 1), pool, Halt())).values()) == {"done"}
    assert pool.ran == [((0, 1, 2), False), ((3,), False), ((0, 1, 2), True), ((3,), True)]


def test_a_model_whose_first_trials_all_fail_is_given_up(tmp_path: Path) -> None:
    pool = FakePool(failing=(0, 1, 2, 3, 4))
    ended = states(execute(passes(tmp_path, 1, 1, 1, 1, 1), pool, Halt(), max_failures=2))
    assert list(ended.values()) == ["failed", "failed", "skipped", "skipped", "skipped"]


def test_a_model_that_has_once_succeeded_is_not_given_up(tmp_path: Path) -> None:
    ended = states(execute(passes(tmp_path, 1, 1, 1, 1), FakePool(failing=(1, 2, 3)), Halt(), max_failures=2))
    assert list(ended.values()) == ["done", "failed", "failed", "failed"]


def test_what_is_declined_is_left_to_others(tmp_path: Path) -> None:
    ended = states(execute(passes(tmp_path, 1, 1, 1), FakePool(), Halt(), takes=lambda job: job.trial.fold != 1))
    assert ended == {0: "done", 2: "done"}


# ---- shards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "2/0", "-1/4"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard takes i/n"):
        parse_shard(text)


def test_shards_share_out_the_plan_whole_groups_and_every_model_alike() -> None:
    plan = [(trial,) for model in ("amil", "m4") for trial in trials(10, model)]
    plan += [tuple(trials(6, "stacked"))]
    parts = [groups_of_shard(plan, Shard(number, 4)) for number in (1, 2, 3, 4)]
    assert sorted(group[0].slot for part in parts for group in part) == sorted(group[0].slot for group in plan)
    assert [len(part) for part in parts] == [6, 5, 5, 5]
    assert all(sum(group[0].model == "m4" for group in part) in (2, 3) for part in parts)
    assert parts[1] == groups_of_shard(list(reversed(plan)), Shard(2, 4)), "the order of the plan must not matter"
    assert sum(len(group) == 6 for part in parts for group in part) == 1


# ---- GPUs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "asked", "per_gpu", "expected"),
    [
        ("", "", 1, ()),
        ("", "all", 1, ("0", "1", "2", "3")),
        ("", "2", 1, ("0", "1")),
        ("", "1,3", 2, ("1", "3", "1", "3")),
        ("", "2,", 1, ("2",)),
        ("4,7", "all", 1, ("4", "7")),
        ("GPU-ab,GPU-cd", "1,", 1, ("GPU-cd",)),
    ],
)
def test_places_are_spread_over_the_gpus_that_the_process_sees(
    monkeypatch: pytest.MonkeyPatch, visible: str, asked: str, per_gpu: int, expected: tuple[str, ...]
) -> None:
    monkeypatch.setenv(gpus.VISIBLE, visible)
    assert gpus.places(asked, per_gpu, 4) == expected


@pytest.mark.parametrize("asked", ["5", "0,4", "none", ",", "0"])
def test_gpus_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    with pytest.raises(UsageError, match=r"--gpus"):
        gpus.places(asked, 1, 4)


def test_every_worker_gets_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(gpus.VISIBLE, "")
    monkeypatch.setattr(gpus, "_held", [])
    places = gpus.places("2", 2, 2)
    assert [gpus.take_place(places) for _ in range(4)] == ["0", "1", "0", "1"]
    gpus._held[1].release()
    assert gpus.take_place(places) == "1", "the place of a dead worker is free again"
    for lock in gpus._held:
        lock.release()


def test_placing_a_worker_imports_no_torch() -> None:
    code = "import sys, milbench.engines.loky, milbench.engines.dask; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_worker_imports_nothing_that_training_does_not_need() -> None:
    """Every worker of every machine starts with these imports: SciPy and scikit-learn would add half to them."""
    unneeded = "{'scipy', 'sklearn', 'mlflow', 'matplotlib'} & set(sys.modules)"
    made = "milbench.engines.worker, milbench.datasets.digits as d; d.make_digits()"
    code = f"import sys, {made}; print(sorted({unneeded}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ---- claims --------------------------------------------------------------------------------------


def test_a_claim_is_there_while_the_work_goes_on(tmp_path: Path) -> None:
    with claims.claimed(tmp_path / "claims", "k"):
        claim = claims.read_claim(tmp_path / "claims", "k")
        assert claim is not None
        assert claims.is_alive(tmp_path / "claims", claim)
    assert claims.read_claim(tmp_path / "claims", "k") is None


def test_a_claim_of_a_dead_or_reborn_process_is_dead(tmp_path: Path) -> None:
    with claims.claimed(tmp_path, "k"):
        claim = claims.read_claim(tmp_path, "k")
    assert claim is not None
    assert not claims.is_alive(tmp_path, replace(claim, pid=2**22 + 1))
    assert not claims.is_alive(tmp_path, replace(claim, born=claim.born - 1)), "the system uses pids again"


def test_a_claim_of_a_zombie_is_dead(tmp_path: Path) -> None:
    """A killed process that nobody has asked about stays in the system's list, with its time of birth."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    claim = claims.Claim("k", socket.gethostname(), process.pid, psutil.Process(process.pid).create_time(), 0.0)
    assert claims.is_alive(tmp_path, claim)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(process.pid).create_time() == claim.born
    assert not claims.is_alive(tmp_path, claim)
    process.wait()


def test_a_claim_of_another_host_lives_by_its_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(claims, "SILENT_SECONDS", 0.5)
    claims._heart.cache_clear()
    with claims.claimed(tmp_path, "k"):
        claim = claims.read_claim(tmp_path, "k")
        assert claim is not None
        elsewhere = replace(claim, host="elsewhere")
        time.sleep(0.7)
        assert claims.is_alive(tmp_path, elsewhere)
        content = (tmp_path / "k.json").read_text()
    (tmp_path / "k.json").write_text(content)
    time.sleep(0.7)
    assert not claims.is_alive(tmp_path, elsewhere)


# ---- stacks killed in part -----------------------------------------------------------------------


def stack(tmp_path: Path) -> DataPass:
    """A pass of one stack, for the tasks A, B and C."""
    run = Run(tmp_path / "run")
    write_header(run, {}, {}, {}, {})
    jobs = tuple(Job(run.path, replace(TRIAL, tasks=(task,)), CohortSource()) for task in ("A", "B", "C"))
    return DataPass((JobGroup(jobs),))


class KilledAfterOne(FakePool):
    """Kills the process of a stack unless it is alone; one that `tells_of_each` has told of the first trial by then."""

    def __init__(self, *, tells_of_each: bool) -> None:
        super().__init__()
        self.tells_of_each = tells_of_each

    def run(self, passes: Iterator[DataPass], *, alone: bool) -> Iterator[PassResult]:
        for data_pass in passes:
            assert len(self.ran) < 2, "what is done is not asked for again and again"
            jobs = data_pass.jobs
            self.ran.append((tuple(job.trial.tasks[0] for job in jobs), alone))  # type: ignore[arg-type]
            told = 1 if self.tells_of_each else 0
            yield from (PassResult((job,), [Status(job, "done", 0)]) for job in jobs[:told])
            left = jobs[told:]
            yield (
                PassResult(left, [Status(job, "done", 0) for job in left])
                if alone
                else PassResult(left, worker_died=True)
            )


@pytest.mark.parametrize("tells_of_each", [False, True], ids=["as loky", "as SLURM"])
def test_a_stack_of_which_something_was_stored_is_tried_again_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tells_of_each: bool
) -> None:
    """Its last digits are those of all its members together; what is stored is trained along and not counted twice."""
    whole, pool = stack(tmp_path), KilledAfterOne(tells_of_each=tells_of_each)
    monkeypatch.setattr(Run, "trial", lambda _, trial_id: object() if trial_id == whole.first.trial.id else None)
    ended = [status.job.trial.tasks[0] for status in execute([whole], pool, Halt())]
    assert pool.ran == [(("A", "B", "C"), False), (("A", "B", "C"), True)]
    assert ended == ["A", "B", "C"]
