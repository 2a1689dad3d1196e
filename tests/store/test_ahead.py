"""Trials read ahead are those that are read one after the other, whichever process read them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from kinds_for_tests import make_run_of_kinds
from runs_for_tests import make_run

from milbench.process import forked
from milbench.store import ahead, run
from milbench.store import kept as stored
from milbench.store.run import Run
from milbench.store.trial import StoredTrial


@pytest.fixture(autouse=True)
def _copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of a process of any size, also if another test left a thread behind."""
    monkeypatch.setattr(forked, "_may_copy", lambda: True)
    monkeypatch.setattr(ahead, "FEWEST", 1)


@pytest.mark.parametrize("make", [make_run, make_run_of_kinds])
@pytest.mark.parametrize("n_cores", [1, 2, 3])
def test_trials_read_ahead_are_those_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make, n_cores) -> None:
    made = make(tmp_path / "toy")
    damaged = made.trials()[1]
    (damaged.path / "history.parquet").write_bytes(b"damaged")
    monkeypatch.setattr(ahead, "usable_cores", lambda: n_cores)
    snapshot = made.snapshot()
    with snapshot.read_ahead():
        pass
    expected = made.trials()
    assert snapshot.trials() == expected
    assert damaged.id not in {trial.id for trial in expected}
    for ours, theirs in zip(snapshot.trials(), expected, strict=True):
        assert_same_content(ours, theirs)


def assert_same_content(ours: StoredTrial, theirs: StoredTrial) -> None:
    assert json.dumps(ours.info) == json.dumps(theirs.info)
    for mine, other in zip(ours.answer_columns(), theirs.answer_columns(), strict=True):
        np.testing.assert_equal(tuple(mine) if isinstance(mine, tuple) else mine, other)
    history, expected = ours.history_columns(), theirs.history_columns()
    assert {name: values.dtype for name, values in history.items()} == {
        name: values.dtype for name, values in expected.items()
    }
    np.testing.assert_equal(dict(history), dict(expected))


def test_copies_read_while_this_process_does_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, usual, here = make_run(tmp_path / "toy"), run.read_trial, []

    def told(folder: Path, trial_id: str, kept: object) -> StoredTrial:
        here.append(trial_id)
        (tmp_path / f"{os.getpid()}").touch()
        return usual(folder, trial_id, kept)

    monkeypatch.setattr(run, "read_trial", told)
    monkeypatch.setattr(ahead, "usable_cores", lambda: 2)
    n_trials, done = len(made.planned()), tmp_path / "all"
    usual_do = ahead._Batch.do

    def do(batch: ahead._Batch) -> None:
        usual_do(batch)
        with done.open("a") as file:
            file.write("x" * len(batch._ids))

    monkeypatch.setattr(ahead._Batch, "do", do)
    snapshot = made.snapshot()
    with snapshot.read_ahead():
        while not done.exists() or len(done.read_text()) < n_trials:
            pass
    assert len(snapshot.trials()) == n_trials
    assert here == [], "the copy has read all"


def test_nothing_that_a_snapshot_has_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Run = make_run(tmp_path / "toy")
    snapshot = made.snapshot()
    with snapshot.read_ahead():
        pass
    for name in ("columns_in", "history_in"):
        monkeypatch.setattr(stored, name, lambda path: pytest.fail(f"{path} is read again"))
    for trial in snapshot.trials():
        trial.answer_columns()
        with pytest.raises(ValueError, match="read-only"):
            trial.history_columns()["train_loss"][0] = 1.0


@pytest.mark.parametrize(
    "error", [AttributeError("no such function"), OSError(24, "Too many open files"), OSError(38, "Not implemented")]
)
def test_where_there_is_no_memory_to_share_trials_are_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    made, usual, opened = make_run(tmp_path / "toy"), getattr(os, "memfd_create", None), []

    def refused(name: str) -> int:
        if opened or usual is None:
            raise error
        opened.append(usual(name))
        return opened[0]

    monkeypatch.setattr(os, "memfd_create", refused, raising=False)
    monkeypatch.setattr(ahead, "BATCHES", 2)
    snapshot = made.snapshot()
    with snapshot.read_ahead():
        for descriptor in opened:  # given back before anything is read
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)
    assert snapshot.trials() == made.trials()


def test_a_snapshot_knows_the_plan_of_its_moment(tmp_path: Path) -> None:
    made = make_run(tmp_path / "toy")
    snapshot, before = made.snapshot(), made.planned()
    assert snapshot.planned() == before
    (made.path / "plan.json").write_text(json.dumps(dict(list(before.items())[1:])))
    assert len(made.planned()) == len(before) - 1
    snapshot.planned().clear()
    assert snapshot.planned() == before


def test_what_an_old_folder_was_asked_follows_from_the_records_that_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a folder has no questions, and a report asks for them with every table of labels."""
    made, read = Run(make_run(tmp_path / "toy").path), []
    (made.path / run.QUESTIONS).unlink(missing_ok=True)
    facts, trial = made.path / "datasets.json", made.trials()[0]
    described = {"toy": made.datasets["toy"] | {"fingerprint": trial.info["fingerprint"]}}
    facts.write_text(json.dumps(described))
    made = Run(made.path)
    expected, usual = made.asked(), run.read_record
    assert expected.keys() == {"toy"}
    monkeypatch.setattr(run, "read_record", lambda *given: read.append(given) or usual(*given))
    snapshot = made.snapshot()
    with snapshot.read_ahead():
        pass
    assert snapshot.asked() == expected
    snapshot.asked().clear()
    assert snapshot.asked() == expected
    assert read == []
    (made.path / "trials" / next(iter(made.planned().values())) / "trial.json").unlink()
    first, *_ = sorted(made.planned().values())
    assert snapshot.record(first) == dict(snapshot.trial(first).info)
