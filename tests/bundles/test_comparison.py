"""Runs of several people on one split in one table, or the reasons why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from bundles_for_tests import labels_of, make_sound_run, roles_of
from commands_for_tests import Milbench
from kinds_for_tests import make_run_of_kinds

from milbench.bundles.comparison import compare
from milbench.bundles.gathering import labels_of as labels_of_paths
from milbench.bundles.gathering import sides_of
from milbench.bundles.other_settings import told_settings
from milbench.bundles.same_question import Side
from milbench.endpoints.endpoint import KINDS, Kind
from milbench.errors import StoreError, UsageError
from milbench.stats.analysis import analyse
from milbench.store.run import Run, open_run


@pytest.fixture(scope="module")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Another person's run on the same split: AMIL again, and DSMIL, both more skilled."""
    return make_sound_run(tmp_path_factory.mktemp("other") / "toy", models=("amil", "dsmil"), skill=2).snapshot()


def refusal(*sides: Side) -> str:
    with pytest.raises(StoreError) as caught:
        compare(sides, 200)
    return str(caught.value)


def test_two_runs_stand_in_one_table_with_the_best_first(sound_run: Run, other_run: Run) -> None:
    (found,) = compare([Side("Ann", sound_run), Side("Bob", other_run)], 200)
    titles = [row.title for row in found.table.rows]
    assert sorted(titles) == ["Ann · AMIL", "Ann · M4", "Bob · AMIL", "Bob · DSMIL"]
    assert titles[0] == "Bob · DSMIL"
    assert found.table.columns == ("Mean", "TP53", "PIK3CA")
    means = [float(row.cells[0].text.strip("†")) for row in found.table.rows]
    assert means == sorted(means, reverse=True)
    assert len(found.analysis.pairs) == 6


def test_each_number_and_interval_is_that_of_the_runs_own_report(sound_run: Run, other_run: Run) -> None:
    (found,) = compare([Side("Ann", sound_run), Side("Bob", other_run)], 200)
    alone = analyse([sound_run], draws=200).cohorts.set_index("model")
    together = found.analysis.cohorts.set_index("model")
    for model in ("amil", "m4"):
        for column in ("score", "low", "high"):
            assert together.loc[f"Ann · {model}", column] == pytest.approx(alone.loc[model, column], rel=1e-12)


def only(run: Run, model: str, path: Path) -> Run:
    """A copy of the run with the trials of one model."""
    shutil.copytree(run.path, path)
    kept = {slot: trial for slot, trial in run.planned().items() if slot.split("/")[1] == model}
    for trial in set(run.planned().values()) - set(kept.values()):
        shutil.rmtree(path / "trials" / trial)
    (path / "plan.json").write_text(json.dumps(kept))
    return Run(path).snapshot()


def same_numbers(ours: pd.DataFrame, theirs: pd.DataFrame, names: dict[str, str]) -> None:
    """Fail unless both tables hold the same rows, in any order, if models are called as in `names`."""
    who = [column for column in ("task", "model", "model_a", "model_b") if column in ours]
    models = [column for column in who if column.startswith("model")]
    ours = ours.assign(**{column: ours[column].map(names) for column in models})
    ordered = (
        table.drop(columns="title", errors="ignore").sort_values(who, ignore_index=True) for table in (ours, theirs)
    )
    pd.testing.assert_frame_equal(*ordered, rtol=1e-12, check_dtype=False)


@pytest.mark.parametrize("kind", KINDS)
def test_two_runs_of_one_model_each_are_told_apart_as_in_the_report_of_a_run_of_both(
    tmp_path: Path, kind: Kind
) -> None:
    both = make_run_of_kinds(tmp_path / "both")
    sides = [Side(name, only(both, name, tmp_path / name)) for name in ("amil", "m4")]
    (found,) = [each for each in compare(sides, 200) if each.kind == kind]
    report = analyse([both.snapshot()], kind=kind, draws=200)
    names = {"amil": "amil · amil", "m4": "m4 · m4"}
    for table in ("cohorts", "cells", "pairs"):
        same_numbers(getattr(report, table), getattr(found.analysis, table), names)
    assert report.pairs[["delta", "low", "high", "p", "p_holm"]].notna().all(axis=None)


def test_beside_more_models_a_pair_keeps_its_p_and_only_the_correction_grows(tmp_path: Path) -> None:
    three = make_sound_run(tmp_path / "three", models=("amil", "m4", "dsmil"))
    sides = [Side(name, only(three, name, tmp_path / name)) for name in ("amil", "dsmil")]
    (found,) = compare(sides, 200)
    pairs = analyse([three.snapshot()], draws=200).pairs.set_index(["model_a", "model_b"])
    alone, among = found.analysis.pairs.iloc[0], pairs.loc[("amil", "dsmil")]
    assert alone[["delta", "low", "high", "p"]].tolist() == pytest.approx(
        among[["delta", "low", "high", "p"]].tolist(), rel=1e-12
    )
    assert alone["p_holm"] == alone["p"]  # one pair, nothing to correct
    smaller = int((pairs["p"] < among["p"]).sum())
    assert among["p_holm"] == pytest.approx(
        min(max((3 - smaller) * among["p"], *pairs["p_holm"][pairs["p"] < among["p"]], 0), 1)
    )


def test_of_tasks_that_one_side_lacks_the_mean_differs_from_the_reports_and_the_tasks_do_not(tmp_path: Path) -> None:
    both = make_sound_run(tmp_path / "both", models=("amil", "m4"))
    ann, bob = only(both, "amil", tmp_path / "amil"), only(both, "m4", tmp_path / "m4")
    kept = {slot: trial for slot, trial in ann.planned().items() if "/TP53/" in slot}
    for trial in set(ann.planned().values()) - set(kept.values()):
        shutil.rmtree(ann.path / "trials" / trial)
    (ann.path / "plan.json").write_text(json.dumps(kept))
    (found,) = compare([Side("Ann", Run(ann.path).snapshot()), Side("Bob", bob)], 200)
    report = analyse([bob], draws=200)
    tasks, ours = report.cells.set_index("task"), found.analysis.cells.set_index(["task", "model"])
    mean = found.analysis.cohorts.set_index("model").loc["Bob · m4"]
    assert found.left_out == ("PIK3CA",)
    assert mean["score"] == pytest.approx(tasks.loc["TP53", "score"], rel=1e-12)
    assert abs(mean["score"] - report.cohorts["score"].item()) > 0.01, "the report takes the mean over both tasks"
    for task in ("TP53", "PIK3CA"):
        numbers = ours.loc[(task, "Bob · m4"), ["score", "low", "high"]].tolist()
        assert numbers == pytest.approx(tasks.loc[task, ["score", "low", "high"]].tolist(), rel=1e-12)


@pytest.mark.slow
def test_the_files_of_compare_and_of_the_report_state_the_same_numbers(tmp_path: Path, milbench_here: Milbench) -> None:
    both = make_sound_run(tmp_path / "both", models=("amil", "m4"))
    for name in ("amil", "m4"):
        only(both, name, tmp_path / name)
    for words in (("report", "both", "--no-tracking", "--out", "told"), ("compare", "amil", "m4", "--out", "compared")):
        done = milbench_here(*words, "--draws", "500")
        assert done.returncode == 0, done.stderr
    names = {"amil": "amil · amil", "m4": "m4 · m4"}
    told, compared = (
        pd.read_csv(tmp_path / name) for name in ("told/data/pairs.csv", "compared/compare_toy_pairs.csv")
    )
    same_numbers(told, compared, names)
    means, table = (pd.read_csv(tmp_path / name) for name in ("told/data/cohorts.csv", "compared/compare_toy.csv"))
    shared = [column for column in means if column in table and column != "title"]
    same_numbers(means[shared], table.loc[table["task"] == "mean", shared], names)


def test_a_bundle_can_be_compared_with_a_run(bundled: Path, other_run: Run) -> None:
    with sides_of([bundled, other_run.path], ["Ann", "Bob"]) as sides:
        (found,) = compare(sides, 200)
    assert len(found.table.rows) == 4


@pytest.mark.parametrize(("make", "reasons"), [
    (lambda path: make_sound_run(path, models=("amil",), labels=labels_of(4)),
     ["labels of TP53 differ for 1 patient(s): PAT-0004", "SLIDE-0004-A has 0 in Ann and 1 in Bob"]),
    (lambda path: make_sound_run(path, models=("amil",), roles=roles_of((2, 50))),
     ["2 patient(s) stand on other sides: PAT-0002, PAT-0050. PAT-0002 is in test of fold 0 in Ann, and in val in Bob"]),
    (lambda path: make_sound_run(path, models=("amil",), folds=(0,)), ["Ann trained folds 0, 1, and Bob 0"]),
    (lambda path: make_sound_run(path, models=("amil",), roles=roles_of().iloc[1:], labels=labels_of().iloc[1:].reset_index(drop=True)),
     ["1 patient(s) are in the split of Ann alone: PAT-0000"]),
])  # fmt: skip
def test_other_labels_splits_or_folds_are_refused_with_the_first_patients(
    sound_run: Run, tmp_path: Path, make: Callable[[Path], Run], reasons: list[str]
) -> None:
    said = refusal(Side("Ann", sound_run), Side("Bob", make(tmp_path / "toy").snapshot()))
    assert [reason for reason in reasons if reason not in said] == []


def test_another_test_side_is_refused_with_the_first_patients(sound_run: Run, tmp_path: Path) -> None:
    labels = labels_of()
    labels = labels[labels["slide_id"] != "SLIDE-0007-A"].reset_index(drop=True)  # the split still holds the patient
    other = make_sound_run(tmp_path / "toy", models=("amil",), labels=labels).snapshot()
    assert "1 slide(s) of TP53 were tested in fold 0 of Ann alone, of patient(s) PAT-0007" in refusal(
        Side("Ann", sound_run), Side("Bob", other)
    )


def test_ids_of_another_salt_are_said_to_be_the_reason(bundled: Path, hidden: Path) -> None:
    with sides_of([bundled, hidden], ["Ann", "Bob"]) as sides:
        assert "no patient in common; their ids are keyed with different salts" in refusal(*sides)


def test_runs_without_a_cohort_in_common_are_refused(sound_run: Run) -> None:
    with pytest.raises(StoreError, match="no cohort is in all of them"):
        compare([Side("Ann", sound_run), Side("Bob", sound_run)], 200, ["other"])


def test_labels_of_paths_tell_them_apart() -> None:
    assert labels_of_paths([Path("ann/digits.zip"), Path("bob/digits")]) == ["ann/digits", "bob/digits"]
    assert labels_of_paths([Path("ann.zip"), Path("bob")]) == ["ann", "bob"]


def test_one_bundle_alone_or_named_twice_is_refused(bundled: Path) -> None:
    for paths in ([bundled], [bundled, bundled]):
        with pytest.raises(UsageError), sides_of(paths):
            pass


def test_the_command_prints_and_writes_the_table(
    bundled: Path, other_run: Run, milbench_here: Milbench, tmp_path: Path
) -> None:
    done = milbench_here(
        "compare", str(bundled), str(other_run.path), "--labels", "Ann", "Bob", "--draws", "200", "--out", "both"
    )
    assert done.returncode == 0, done.stderr
    assert "Bob · DSMIL" in done.stdout
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == [
        "compare_toy.csv", "compare_toy.md", "compare_toy.tex", "compare_toy_pairs.csv",
    ]  # fmt: skip
    assert len(pd.read_csv(tmp_path / "both/compare_toy_pairs.csv")) == 6


def test_other_labels_are_refused_also_where_no_table_of_labels_was_kept(sound_run: Run, tmp_path: Path) -> None:
    run = make_sound_run(tmp_path / "toy", models=("amil",), labels=labels_of(shift=3))
    run.label_file("toy").unlink()
    told = refusal(Side("Ann", sound_run), Side("Bob", run.snapshot()))
    assert "slides of TP53 were tested in fold 0 with other labels or patients, first of patient(s) PAT-0003" in told


def test_of_one_model_twice_the_table_says_whether_it_is_one_training_or_what_differs(
    sound_run: Run, tmp_path: Path
) -> None:
    again = Path(shutil.copytree(sound_run.path, tmp_path / "again" / "toy"))
    (found,) = compare([Side("Ann", sound_run), Side("Bob", open_run(again).snapshot())], 200)
    assert "AMIL of Ann and of Bob is one and the same training, which counts twice here." in found.table.caption
    run = make_sound_run(tmp_path / "toy", models=("amil",), skill=1)
    bob = Side("Bob", run.snapshot())
    for trial in bob.trials("toy"):
        trial.info["recipe"]["lr"] = 0.5
    told = told_settings([Side("Ann", sound_run), bob], "toy")
    assert told.startswith(" AMIL differs between Ann and Bob: lr ")
    assert "and 0.5" in told
