"""Columns of a file of predictions hold what its data frame holds, for trials of every kind."""

import numpy as np
import pandas as pd
import pytest
from kinds_for_tests import make_run_of_kinds
from runs_for_tests import make_run

from milbench.store import kept as stored
from milbench.store.columns import TEXTS, Coded, Columns, columns_of
from milbench.store.joined import stacked_histories
from milbench.store.kept import Kept
from milbench.store.run import Run


@pytest.fixture(scope="module", params=["binary", "kinds"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    make = {"binary": make_run, "kinds": make_run_of_kinds}[request.param]
    return make(tmp_path_factory.mktemp("runs") / "toy")


def as_frame(columns: Columns) -> pd.DataFrame:
    names = (*TEXTS, "target", "event", "prediction")
    return pd.DataFrame({
        name: column.texts() if isinstance(column, Coded) else column for name, column in zip(names, columns, strict=True)
    })  # fmt: skip


def test_columns_are_those_of_the_data_frame(run: Run) -> None:
    for trial in run.trials():
        frame = trial.answers()
        for columns in (trial.answer_columns(), columns_of(frame)):
            found = as_frame(columns)[list(frame.columns)]
            pd.testing.assert_frame_equal(found, frame, check_dtype=False)


def test_rows_of_a_mask_and_places_among_names(run: Run) -> None:
    trial = run.trials()[0]
    frame, columns = trial.answers(), trial.answer_columns()
    test = columns.where(columns.role.are("test"))
    assert test.slide_id.texts().tolist() == frame.loc[frame["role"] == "test", "slide_id"].tolist()
    assert test.role.used() == ["test"]
    assert test.task.used() == list(dict.fromkeys(frame.loc[frame["role"] == "test", "task"]))
    assert set(test.role.among(["val", "test"])) == {1}
    assert set(test.role.among(["val"])) == {-1}
    assert not columns.role.are("train").any()


def test_coded_texts_are_the_texts() -> None:
    coded = Coded.of(["b", "a", "b"])
    assert (coded.codes.tolist(), coded.values) == ([0, 1, 0], ("b", "a"))
    assert Coded.of([]).texts().tolist() == []


def test_stacked_histories_are_the_histories_one_after_the_other(run: Run) -> None:
    trials = run.trials()
    facts = [{"model": trial.info["model"], "fold": trial.info["fold"]} for trial in trials]
    found = stacked_histories(trials, facts)
    expected = pd.concat(
        [
            trial.history().rename(columns={"val_score": "val_auroc"}).assign(**fact)
            for trial, fact in zip(trials, facts, strict=True)
        ],
        ignore_index=True,
    )
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert found["epoch"].dtype == np.int64
    assert stacked_histories([], []).empty


def test_a_snapshot_keeps_the_answers_that_it_verified_and_lets_nobody_change_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    usual = stored.columns_in
    monkeypatch.setattr(stored, "columns_in", lambda path: read.append(path) or usual(path))
    trials = run.snapshot().trials()
    assert trials == run.trials()
    for _ in range(3):
        for trial in trials:
            trial.answer_columns()
    assert not read, "the verification has read them"
    with pytest.raises(ValueError, match="read-only"):
        trials[0].answer_columns().prediction[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        trials[0].answer_columns().task.codes[0] = 1


def test_what_does_not_fit_is_read_each_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    usual = stored.columns_in
    monkeypatch.setattr(stored, "columns_in", lambda path: read.append(path) or usual(path))
    trial = run.trials()[0]
    kept = Kept(most_bytes=10)
    for _ in range(2):
        kept.columns(trial.path / "predictions.parquet", "a checksum")
    assert len(read) == 2
