"""Runs of several people on one split in one table, or the reasons why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from bundles_for_tests import labels_of, make_sound_run, roles_of
from commands_for_tests import Milbench

from milbench.bundles.comparison import compare
from milbench.bundles.gathering import labels_of as labels_of_paths
from milbench.bundles.gathering import sides_of
from milbench.bundles.same_question import Side
from milbench.errors import StoreError, UsageError
from milbench.stats.analysis import analyse
from milbench.store.run import Run


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
