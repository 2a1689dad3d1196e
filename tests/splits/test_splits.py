"""Splits: all on patients, reproducible, stratified, audited."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED
from sklearn.model_selection import train_test_split

from milbench.cohorts.cohort_file import PROTOCOLS
from milbench.errors import SplitError, UsageError
from milbench.labels import read_labels
from milbench.splits import DRAWN, Split, audit, make_split

TABLES = SHARED / "data" / "tcga_labels"


def make_slides(n_patients: int, seed: int, n_tasks: int = 3) -> pd.DataFrame:
    """Patients with one to three slides, not adjacent; tasks of prevalence .5, .3, .1, some labels unknown."""
    rng = np.random.default_rng(seed)
    labels = {f"t{t}": (rng.random(n_patients) < [0.5, 0.3, 0.1][t % 3]).astype(float) for t in range(n_tasks)}
    patients = pd.DataFrame({"patient_id": [f"p{i}" for i in rng.permutation(n_patients)], **labels})
    patients.loc[rng.random(n_patients) < 0.1, "t0"] = np.nan
    slides = patients.loc[rng.permutation(np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients)))]
    return slides.reset_index(drop=True).assign(slide_id=[f"s{i}" for i in range(len(slides))])


TASKS = ("t0", "t1", "t2")
MANY = st.integers(20, 120)


@settings(max_examples=25, deadline=None)
@given(MANY, st.integers(0, 10_000), st.sampled_from(["kfold", "m4"]))
def test_a_patient_never_appears_on_both_sides(n_patients: int, seed: int, protocol: str) -> None:
    slides = make_slides(n_patients, seed)
    split = make_split(slides, TASKS, protocol)
    for fold in range(split.n_folds):
        sides = {role: split.slides(slides, fold, role) for role in ("train", "val", "test")}
        owners = [set(side["patient_id"]) for side in sides.values()]
        assert not owners[0] & owners[1]
        assert not (owners[0] | owners[1]) & owners[2]
        assert sum(len(side) for side in sides.values()) == len(slides)


@settings(max_examples=25, deadline=None)
@given(MANY, st.integers(0, 10_000))
def test_in_kfold_every_patient_outside_the_test_set_validates_exactly_once(n_patients: int, seed: int) -> None:
    table = make_split(make_slides(n_patients, seed), TASKS, "kfold").table
    roles = table.drop(columns="patient_id")
    in_test = (roles == "test").any(axis=1)
    assert ((roles == "test").sum(axis=1)[in_test] == 5).all()
    assert ((roles == "val").sum(axis=1)[~in_test] == 1).all()
    assert in_test.mean() == pytest.approx(0.2, abs=0.1)


@settings(max_examples=20, deadline=None)
@given(st.integers(60, 150), st.integers(0, 10_000))
def test_kfold_spreads_every_label_as_evenly_as_whole_patients_allow(n_patients: int, seed: int) -> None:
    slides = make_slides(n_patients, seed)
    patients = slides.drop_duplicates("patient_id")
    split = make_split(slides, TASKS, "kfold")
    for task in TASKS:
        per_fold = [int((split.slides(patients, fold, "val")[task] == 1).sum()) for fold in range(5)]
        assert max(per_fold) - min(per_fold) <= 4, (task, per_fold)


def test_kfold_validation_sides_have_nearly_the_same_number_of_patients() -> None:
    """Whole patients and several labels at once leave a difference of one, now and then of two or three."""
    differences = []
    for seed in range(40):
        table = make_split(make_slides(40 + 2 * seed, seed), TASKS, "kfold").table
        sizes = [int((table[f"fold_{fold}"] == "val").sum()) for fold in range(5)]
        differences.append(max(sizes) - min(sizes))
    assert max(differences) <= 3
    assert np.mean(np.array(differences) <= 1) >= 0.9


def test_kfold_is_better_balanced_than_chance_on_a_rare_label() -> None:
    slides = make_slides(300, 1)
    spread = {}
    for protocol in ("kfold", "m4"):
        split = make_split(slides, TASKS, protocol)
        table = audit(split, slides, TASKS).table.query("role == 'val' and task == 't2'")
        spread[protocol] = (table["positives"] / table["slides"]).std()
    assert spread["kfold"] < spread["m4"]


@pytest.mark.parametrize("protocol", ["kfold", "m4"])
def test_the_same_cohort_gives_the_same_bytes(protocol: str, tmp_path: Path) -> None:
    slides = make_slides(50, 3)
    split = make_split(slides, TASKS, protocol)
    assert make_split(slides.copy(), TASKS, protocol).sha256 == split.sha256
    (tmp_path / "split.csv").write_text(split.to_csv())
    assert Split.from_csv(tmp_path / "split.csv").sha256 == split.sha256
    assert make_split(slides, TASKS, str(tmp_path / "split.csv")).sha256 == split.sha256


def test_m4_is_scikit_learns_partition_of_patients_in_file_order() -> None:
    slides = make_slides(40, 5)
    table = make_split(slides, TASKS, "m4").table
    patients = slides["patient_id"].drop_duplicates().tolist()
    rest, test = train_test_split(patients, test_size=0.2, random_state=42)
    assert set(table.loc[table["fold_0"] == "test", "patient_id"]) == set(test)
    for fold in range(5):
        _, validation = train_test_split(rest, test_size=0.2, random_state=fold)
        assert set(table.loc[table[f"fold_{fold}"] == "val", "patient_id"]) == set(validation)


def official_fingerprints() -> dict[str, list[str]]:
    """Cohort -> SHA-1 starts of the test set and the five validation sets, from the record of the official code."""
    text = (SHARED / "SPLITS.txt").read_text() if (SHARED / "SPLITS.txt").exists() else ""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"(\w+) patients .* sha1 (\w+)", line):
            found[name := match[1]] = [match[2]]
        elif match := re.search(r"fold \d train/val slides (\d+) (\d+) .* val sha1 (\w+)", line):
            found[name] += [f"{match[1]}/{match[2]}/{match[3]}"]
    return found


@pytest.mark.realdata
@pytest.mark.skipif(not TABLES.exists(), reason="the label tables are not beside the checkout")
@pytest.mark.parametrize("name", ["brca", "crc", "gbmlgg", "luad", "ucec"])
def test_m4_reproduces_the_official_partition_of_the_real_cohorts(name: str) -> None:
    slides = read_labels(TABLES / f"all_{name}.csv").slides
    split = make_split(slides, [c for c in slides if not c.endswith("_id")], "m4")

    def sha1(fold: int, role: str) -> str:
        patients = split.table.loc[split.table[f"fold_{fold}"] == role, "patient_id"]
        return hashlib.sha1("\n".join(sorted(patients)).encode()).hexdigest()[:12]

    sizes = [[len(split.slides(slides, fold, role)) for role in ("train", "val")] for fold in range(5)]
    ours = [sha1(0, "test"), *(f"{train}/{val}/{sha1(fold, 'val')}" for fold, (train, val) in enumerate(sizes))]
    assert ours == official_fingerprints()[name]


def test_the_audit_counts_by_hand_and_names_a_fold_with_one_class() -> None:
    slides = pd.DataFrame({"slide_id": list("abcdef"), "patient_id": list("ABCDEE"), "t": [1, 0, 1, 1, 0, np.nan]})
    table = pd.DataFrame({"patient_id": list("ABCDE"), "fold_0": ["train", "train", "val", "val", "test"]})
    result = audit(Split(table, "mine"), slides, ["t"])
    counts = {row.role: (row.patients, row.slides, row.positives, row.negatives) for row in result.table.itertuples()}
    assert counts == {"train": (2, 2, 1, 1), "val": (2, 2, 2, 0), "test": (1, 2, 0, 1)}
    assert len(result.warnings) == 2
    assert "t has 2 positive and 0 negative val slides in fold 0" in result.warnings[0]
    assert "NaN" in result.warnings[1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("A", "train"), ("A", "test"), ("B", "val"), ("C", "test")], "patient A stands in .* more than once"),
        ([("A", "train"), ("B", "val")], "1 patients have no role"),
        ([("A", "train"), ("B", "train"), ("C", "test")], "no val slides"),
    ],
)
def test_a_split_that_leaks_or_lacks_a_side_is_refused(rows: list[tuple[str, str]], message: str) -> None:
    slides = pd.DataFrame({"slide_id": list("abc"), "patient_id": list("ABC"), "t": [0, 1, 0]})
    table = pd.DataFrame(rows, columns=["patient_id", "fold_0"])
    with pytest.raises(SplitError, match=message):
        audit(Split(table, "mine"), slides, ["t"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient,fold_0\nA,train\n", "expected patient_id"),
        ("patient_id,fold_0\nA,training\n", "role 'training' in line 2"),
        ("", "the split .*has no line below its header. Expected a CSV table of milbench"),
        (
            "patient_id,fold_0\nA,train,\nB,test,\n",
            r"line 2 has 3 cells, the header has 2 \(line 1: patient_id, fold_0\)",
        ),
        ("patient_id,fold_0\n0,A,train\n", "line 2 has 3 cells, the header has 2"),
        (",patient_id,fold_0\n0,A,train\n", "column 1 has values but no name"),
        ("patient_id,fold_0,fold_0\nA,train,test\n", "2 columns are called 'fold_0'"),
        ('patient_id,fold_0\nA,train\n"B,test\n', "the row that begins in line 3 does not end"),
    ],
)
def test_a_bad_split_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(SplitError, match=message):
        Split.from_csv(tmp_path / "s.csv")


def test_too_few_patients_and_unknown_protocols_are_refused() -> None:
    with pytest.raises(SplitError, match="6 patients are too few for 5 folds"):
        make_split(make_slides(6, 0), TASKS, "kfold")
    with pytest.raises(UsageError, match="neither kfold, m4, site nor a file or folder"):
        make_split(make_slides(40, 0), TASKS, "k-fold")


def test_every_protocol_that_a_cohort_may_name_is_drawn() -> None:
    assert set(DRAWN) == set(PROTOCOLS)
