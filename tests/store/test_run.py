"""The store: atomic, checked, and honest about what is damaged."""

import errno
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs_for_tests import describe, info, make_run
from safetensors.numpy import load_file

from milbench.errors import StoreError
from milbench.store.run import PREDICTION_COLUMNS, Run, open_run
from milbench.store.slot import trial_id_of

PREDICTIONS = pd.DataFrame(
    {"slide_id": ["s1"], "patient_id": ["p1"], "role": ["test"], "task": ["a"], "target": [1.0], "probability": [0.25]}
)
HISTORY = pd.DataFrame({"epoch": [0], "lr": [0.1], "train_loss": [0.5], "val_loss": [0.6], "val_auroc": [0.7]})
INFO = info("toy", "amil", ("a",), 0, n_epochs=1, n_parameters=3)
ID, SLOT = trial_id_of(INFO), "toy/amil/a/fold0-seed42"
TOY = {"toy": describe("toy", ("amil",), ("a",))}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.write_header({"models": ["amil"]}, {"git": "abc"}, TOY, {SLOT: ID})
    return run


def write(run: Run) -> None:
    run.write_trial(ID, INFO, PREDICTIONS, HISTORY, {"w": np.arange(3, dtype=np.float32)})


def test_a_trial_reads_back_as_it_was_written(run: Run) -> None:
    write(run)
    (trial,) = open_run(run.path).trials()
    assert trial.info["dataset"] == "toy"
    pd.testing.assert_frame_equal(trial.predictions(), PREDICTIONS)
    pd.testing.assert_frame_equal(trial.history(), HISTORY)


def test_weights_that_lie_transposed_in_memory_are_stored_by_value(run: Run) -> None:
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    weights = {"transposed": grid.T, "columns": grid[:, ::2], "tied": grid, "also tied": grid, "number": np.float32(2)}
    run.write_trial(ID, INFO, PREDICTIONS, HISTORY, {name: np.asarray(values) for name, values in weights.items()})
    stored = load_file(run.path / "trials" / ID / "model.safetensors")
    for name, values in weights.items():
        np.testing.assert_array_equal(stored[name], values)


def test_the_same_results_make_the_same_bytes(run: Run) -> None:
    write(run)
    first = {path.name: path.read_bytes() for path in (run.path / "trials" / ID).iterdir()}
    write(run)
    assert {path.name: path.read_bytes() for path in (run.path / "trials" / ID).iterdir()} == first


@pytest.mark.parametrize("name", ["predictions.parquet", "history.parquet", "model.safetensors"])
def test_a_damaged_payload_means_not_done_and_is_replaced(run: Run, name: str) -> None:
    write(run)
    (run.path / "trials" / ID / name).write_bytes(b"garbage")
    assert run.trial(ID) is None
    assert run.trials() == []
    write(run)
    assert run.trial(ID) is not None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_truncated_trial_file_means_not_done(run: Run, content: str) -> None:
    write(run)
    (run.path / "trials" / ID / "trial.json").write_text(content)
    assert run.trial(ID) is None


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
        Run(tmp_path / "file" / "run").write_header({}, {}, {}, {})


def test_what_a_killed_writer_left_is_swept_by_the_next_claim(run: Run) -> None:
    leftover = run.path / "partial" / f"{INFO['key']}-dead"
    leftover.mkdir()
    other = run.path / "partial" / "other-alive"
    other.mkdir()
    with run.claim(INFO["key"]) as mine:
        assert mine
    assert not leftover.exists()
    assert other.exists()


def test_a_held_trial_cannot_be_claimed_twice(run: Run) -> None:
    with run.claim("k") as first, Run(run.path).claim("k") as second:
        assert first
        assert not second
    with run.claim("k") as again:
        assert again


def test_a_replanned_slot_hides_the_older_trial(run: Run) -> None:
    write(run)
    run.write_header({}, {}, {}, {SLOT: ID[:-8] + "11111111"})
    assert run.trials() == []
    assert run.trial(ID) is not None


def test_a_failure_that_another_process_forgets_meanwhile_is_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_failure(INFO["key"], {"id": ID, "type": "ValueError", "message": "", "traceback": ""})
    read = Path.read_bytes

    def too_late(path: Path) -> bytes:
        if path.parent.name == "failures":
            path.unlink()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", too_late)
    assert run.failures() == []


def test_failures_are_listed_until_cleared(run: Run) -> None:
    run.write_failure(INFO["key"], {"id": ID, "type": "ValueError", "message": "on purpose"})
    assert [failure["type"] for failure in run.failures()] == ["ValueError"]
    run.clear_failure(INFO["key"])
    assert run.failures() == []


def test_opening_what_is_no_run_names_the_runs_there_are(run: Run) -> None:
    with pytest.raises(StoreError, match=r"holds no run.*Runs in .*: run"):
        open_run(run.path.parent / "other")


def test_a_damaged_header_is_named(run: Run) -> None:
    (run.path / "datasets.json").write_text("{")
    with pytest.raises(StoreError, match=r"datasets\.json is damaged"):
        _ = run.datasets


def test_the_header_keeps_what_earlier_calls_planned(run: Run) -> None:
    slot = "other/amil/a/fold0-seed42"
    run.write_header({}, {}, {"other": TOY["toy"]}, {slot: f"{slot}-00000000"})
    assert set(Run(run.path).datasets) == {"toy", "other"}
    assert set(json.loads((run.path / "plan.json").read_text())) == {SLOT, slot}


def test_predictions_of_all_trials_are_one_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("amil", "m4"), folds=(0, 1))
    table = run.predictions()
    assert tuple(table) == PREDICTION_COLUMNS
    assert len(table) == sum(len(trial.predictions()) for trial in run.trials())
    for trial in run.trials():
        info = trial.info
        one = (table["model"] == info["model"]) & (table["fold"] == info["fold"]) & table["task"].isin(info["tasks"])
        kept = table[one][list(PREDICTIONS)].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, trial.predictions())


def test_a_run_without_finished_trials_has_an_empty_table_of_predictions(run: Run) -> None:
    assert tuple(run.predictions()) == PREDICTION_COLUMNS
    assert run.predictions().empty


def test_a_run_shows_itself_in_one_line(run: Run) -> None:
    assert repr(run) == f"Run({run.path}: 0 of 1 trials done, 1 models on toy)"
    write(run)
    assert repr(run) == f"Run({run.path}: 1 of 1 trials done, 1 models on toy)"
    assert repr(run.trial(ID)) == f"StoredTrial({ID})"


@pytest.mark.parametrize("content", ["{", '{"a": "b"}'])
def test_a_run_with_a_damaged_plan_still_shows_itself(run: Run, content: str) -> None:
    (run.path / "plan.json").write_text(content)
    assert repr(run) == f"Run({run.path}: plan.json is damaged)"
