"""A run folder is read as what it is, and honest about what is damaged."""

from pathlib import Path

import pandas as pd
import pytest
from one_trial import HISTORY, ID, INFO, PREDICTIONS, SLOT, write
from runs_for_tests import make_run

from milbench.errors import StoreError
from milbench.store.run import PREDICTION_COLUMNS, Run, open_run
from milbench.store.run_writing import write_failure, write_header


def test_a_trial_reads_back_as_it_was_written(run: Run) -> None:
    write(run)
    (trial,) = open_run(run.path).trials()
    assert trial.info["dataset"] == "toy"
    pd.testing.assert_frame_equal(trial.predictions(), PREDICTIONS)
    pd.testing.assert_frame_equal(trial.history(), HISTORY)


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


def test_a_replanned_slot_hides_the_older_trial(run: Run) -> None:
    write(run)
    write_header(run, {}, {}, {}, {SLOT: ID[:-8] + "11111111"})
    assert run.trials() == []
    assert run.trial(ID) is not None


def test_a_failure_that_another_process_forgets_meanwhile_is_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write_failure(run, INFO["key"], {"id": ID, "type": "ValueError", "message": "", "traceback": ""})
    read = Path.read_bytes

    def too_late(path: Path) -> bytes:
        if path.parent.name == "failures":
            path.unlink()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", too_late)
    assert run.failures() == []


def test_opening_what_is_no_run_names_the_runs_there_are(run: Run) -> None:
    with pytest.raises(StoreError, match=r"holds no run.*Runs in .*: run"):
        open_run(run.path.parent / "other")


def test_a_damaged_header_is_named(run: Run) -> None:
    (run.path / "datasets.json").write_text("{")
    with pytest.raises(StoreError, match=r"datasets\.json is damaged"):
        _ = run.datasets


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
