"""New patients in a saved split: everyone gets a role, nobody moves, labels stay spread."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milbench.errors import SplitError
from milbench.splits import audit, make_split
from milbench.splits.table import Split

TASKS = ("a", "b")


def cohort(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    table = {"slide_id": [f"s{i}" for i in range(200)], "patient_id": [f"p{i}" for i in range(200)]}
    labels = {"a": rng.integers(0, 2, 200).astype(float), "b": (rng.random(200) < 0.2).astype(float)}
    return pd.DataFrame({**table, **labels}).head(n)


def saved(tmp_path: Path, protocol: str, n: int = 120) -> Path:
    path = tmp_path / "saved.csv"
    path.write_text(make_split(cohort(n), TASKS, protocol).to_csv())
    return path


@pytest.mark.parametrize("protocol", ["kfold", "m4"])
def test_new_patients_get_roles_and_nobody_moves(tmp_path: Path, protocol: str) -> None:
    path = saved(tmp_path, protocol)
    former = Split.from_csv(path)
    split = make_split(cohort(160), TASKS, str(path))
    assert split.table.head(120).equals(former.table)
    assert list(split.table["patient_id"])[120:] == [f"p{i}" for i in range(120, 160)]
    assert audit(split, cohort(160), TASKS).warnings == ()
    assert any("40 new patients were dealt into" in note for note in split.notes)


@pytest.mark.parametrize("protocol", ["kfold", "m4"])
def test_sides_and_labels_keep_their_shares(tmp_path: Path, protocol: str) -> None:
    split = make_split(cohort(200), TASKS, str(saved(tmp_path, protocol)))
    joined = cohort(200).merge(split.table, on="patient_id")
    assert abs((joined["fold_0"] == "test").mean() - 0.2) < 0.03
    shares = joined.groupby("fold_0")[list(TASKS)].mean()
    assert (shares - cohort(200)[list(TASKS)].mean()).abs().loc[["test", "train"]].max().max() < 0.12
    fresh = joined[joined["patient_id"].isin([f"p{i}" for i in range(120, 200)])]
    assert set(fresh["fold_0"]) == {"train", "val", "test"}


def test_the_same_patients_are_dealt_the_same_way(tmp_path: Path) -> None:
    path = str(saved(tmp_path, "kfold"))
    assert make_split(cohort(150), TASKS, path).sha256 == make_split(cohort(150), TASKS, path).sha256


def test_a_split_that_knows_everyone_stays_as_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path, "kfold")
    assert make_split(cohort(120), TASKS, str(path)).sha256 == Split.from_csv(path).sha256
    assert make_split(cohort(100), TASKS, str(path)).sha256 == Split.from_csv(path).sha256


def test_another_cohorts_split_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "kfold", n=60)
    with pytest.raises(SplitError, match=r"no role for 140 of 200 patients.*another cohort"):
        make_split(cohort(200), TASKS, str(path))
