"""A run folder is written whole or not at all."""

import errno
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock, Timeout
from one_trial import HISTORY, ID, INFO, PREDICTIONS, SLOT, TOY, write
from safetensors.numpy import load_file

from milbench.errors import StoreError
from milbench.store.run import Run
from milbench.store.run_writing import claim, clear_failure, described, write_failure, write_header, write_trial


def test_weights_that_lie_transposed_in_memory_are_stored_by_value(run: Run) -> None:
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    weights = {"transposed": grid.T, "columns": grid[:, ::2], "tied": grid, "also tied": grid, "number": np.float32(2)}
    write_trial(run, ID, INFO, PREDICTIONS, HISTORY, {name: np.asarray(values) for name, values in weights.items()})
    stored = load_file(run.path / "trials" / ID / "model.safetensors")
    for name, values in weights.items():
        np.testing.assert_array_equal(stored[name], values)


def test_the_same_results_make_the_same_bytes(run: Run) -> None:
    write(run)
    first = {path.name: path.read_bytes() for path in (run.path / "trials" / ID).iterdir()}
    write(run)
    assert {path.name: path.read_bytes() for path in (run.path / "trials" / ID).iterdir()} == first


def test_a_failed_write_leaves_nothing_behind(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full_disk)
    with pytest.raises(StoreError, match="No space left on device"):
        write(run)
    assert list((run.path / "trials").iterdir()) == list((run.path / "partial").iterdir()) == []


def test_an_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="choose another place"):
        write_header(Run(tmp_path / "file" / "run"), {}, {}, {}, {})


def test_what_a_killed_writer_left_is_swept_by_the_next_claim(run: Run) -> None:
    leftover = run.path / "partial" / f"{INFO['key']}-dead"
    leftover.mkdir()
    other = run.path / "partial" / "other-alive"
    other.mkdir()
    with claim(run, INFO["key"]) as mine:
        assert mine
    assert not leftover.exists()
    assert other.exists()


def test_a_held_trial_cannot_be_claimed_twice(run: Run) -> None:
    with claim(run, "k") as first, claim(Run(run.path), "k") as second:
        assert first
        assert not second
    with claim(run, "k") as again:
        assert again


def test_failures_are_listed_until_cleared(run: Run) -> None:
    write_failure(run, INFO["key"], {"id": ID, "type": "ValueError", "message": "on purpose"})
    assert [failure["type"] for failure in run.failures()] == ["ValueError"]
    clear_failure(run, INFO["key"])
    assert run.failures() == []


def test_the_header_keeps_what_earlier_calls_planned(run: Run) -> None:
    slot = "other/amil/a/fold0-seed42"
    write_header(run, {}, {}, {"other": TOY["toy"]}, {slot: f"{slot}-00000000"})
    assert set(Run(run.path).datasets) == {"toy", "other"}
    assert set(json.loads((run.path / "plan.json").read_text())) == {SLOT, slot}


def test_the_header_is_held_until_the_outermost_block_ends(run: Run) -> None:
    lock = run.path / "locks" / "header.lock"
    with described(run):
        write_header(run, {}, {}, {}, {})
        with pytest.raises(Timeout):
            FileLock(lock).acquire(timeout=0)
    with FileLock(lock).acquire(timeout=0):
        pass


def test_what_a_run_has_read_of_its_header_gives_way_to_what_is_written(run: Run) -> None:
    assert run.config == {"models": ["amil"]}
    write_header(run, {"models": ["m4"]}, {}, {}, {})
    assert run.config == {"models": ["m4"]}
