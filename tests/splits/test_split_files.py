"""Splits of other tools: what is written is what is read; leaks and gaps are named, validation is never invented unsaid."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands_for_tests import FAST, Milbench
from hypothesis import given, settings
from hypothesis import strategies as st

from milbench.errors import SplitError, StoreError, UsageError
from milbench.splits import ROLES, Split, audit, make_split
from milbench.splits.files import read_split, write_split

TASKS = ("t",)


def make_slides(n_patients: int) -> pd.DataFrame:
    """Patients 00, 01, ... with one or two slides, not adjacent; ids that a number parser would spoil."""
    patients = [f"{number:02d}" for number in range(n_patients)]
    owners = patients + patients[::3]
    rows = {"slide_id": [f"{place}.0" for place in range(len(owners))], "patient_id": owners}
    return pd.DataFrame({**rows, "t": [float(int(owner) % 2) for owner in owners]}).astype({"patient_id": object})


def random_split(n_patients: int, n_folds: int, seed: int) -> Split:
    """Roles by chance, another test side in every fold, no side empty."""
    rng = np.random.default_rng(seed)
    roles = {
        f"fold_{fold}": rng.permutation([*ROLES, *rng.choice(ROLES, n_patients - 3)]).astype(object)
        for fold in range(n_folds)
    }
    return Split(pd.DataFrame({"patient_id": [f"{p:02d}" for p in range(n_patients)], **roles}), "by chance")


SIZES = (st.integers(4, 30), st.integers(1, 12), st.integers(0, 10_000))


@settings(max_examples=30, deadline=None)
@given(*SIZES, st.sampled_from(["clam", "pathobench"]))
def test_a_split_written_for_a_tool_with_validation_comes_back_the_same(
    n_patients: int, n_folds: int, seed: int, tool: str
) -> None:
    split, slides = random_split(n_patients, n_folds, seed), make_slides(n_patients)
    with tempfile.TemporaryDirectory() as folder:
        write_split(split, slides, tool, Path(folder) / "out")
        again = read_split(Path(folder) / "out", slides, TASKS)
    assert again.sha256 == split.sha256


@settings(max_examples=20, deadline=None)
@given(*SIZES)
def test_stamp_carries_the_test_side_and_validation_comes_from_its_training_side(
    n_patients: int, n_folds: int, seed: int
) -> None:
    split, slides = random_split(n_patients, n_folds, seed), make_slides(n_patients)
    with tempfile.TemporaryDirectory() as folder:
        write_split(split, slides, "stamp", Path(folder))
        again = [read_split(Path(folder) / "splits.json", slides, TASKS) for _ in range(2)]
    assert again[0].sha256 == again[1].sha256
    pd.testing.assert_frame_equal(
        again[0].table == "test", split.table.assign(patient_id=again[0].table["patient_id"]) == "test"
    )
    assert "STAMP gives no validation side" in again[0].notes[-1]
    assert "seed 42" in again[0].notes[-1]


def test_the_drawn_validation_side_is_a_stratified_fifth_of_the_training_patients(tmp_path: Path) -> None:
    slides = make_slides(60)
    write_split(make_split(slides, TASKS, "kfold"), slides, "stamp", tmp_path)
    split = make_split(slides, TASKS, str(tmp_path))
    table = audit(split, slides.drop_duplicates("patient_id"), TASKS).table.query("role == 'val'")
    assert table["patients"].between(9, 10).all()
    assert table["positives"].between(4, 6).all()


# ---- CLAM ----------------------------------------------------------------------------------------


def clam(folder: Path, *files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(files):
        (folder / f"splits_{number}.csv").write_text(text)
    return folder


GOOD = ",train,val,test\n0,0.0,1.0,2.0\n1,3.0,,\n"


def test_clams_ragged_columns_are_read_as_text_and_the_other_files_beside_them_are_not(tmp_path: Path) -> None:
    slides = make_slides(3)
    folder = clam(tmp_path / "clam", GOOD)
    (folder / "splits_0_bool.csv").write_text(",train,val,test\n0.0,True,False,False\n")
    (folder / "splits_0_descriptor.csv").write_text(",train,val,test\n0,1,1,1\n")
    for path in (folder, folder / "splits_0.csv"):
        assert read_split(path, slides, TASKS).table["fold_0"].tolist() == ["train", "val", "test"]


@pytest.mark.parametrize("header", ["Unnamed: 0,train,val,test", ",train,val,test", '""," train ",val,test'])
def test_clams_index_column_may_have_been_saved_again_by_pandas(tmp_path: Path, header: str) -> None:
    path = clam(tmp_path / "clam", header + "\n0,0.0,1.0,2.0\n1,3.0\n") / "splits_0.csv"
    assert make_split(make_slides(3), TASKS, str(path)).table["fold_0"].tolist() == ["train", "val", "test"]


def test_ten_files_are_ten_folds_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    files = [GOOD if number != 10 else ",train,val,test\n0,1.0,0.0,2.0\n1,,3.0,\n" for number in range(11)]
    split = read_split(clam(tmp_path / "clam", *files), make_slides(3), TASKS)
    assert split.n_folds == 11
    assert split.table["fold_10"].tolist() == ["val", "train", "test"]


def test_slides_that_a_split_does_not_list_follow_their_patient_and_are_counted(tmp_path: Path) -> None:
    split = read_split(clam(tmp_path / "c", ",train,val,test\n0,0.0,1.0,2.0\n1,elsewhere,,\n"), make_slides(3), TASKS)
    assert split.notes == (
        "splits: c is of CLAM, 1 folds of slide ids",
        "1 of 4 ids of the split are not in the cohort (elsewhere): ignored",
        "1 slides are not in the split: each follows the other slides of its patient",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ",train,val,test\n0,0.0,1.0,3.0\n1,,,2.0\n",
            r"patient 00 stands in train and in test of fold 0 \(with '3.0'\)",
        ),
        (",train,val,test\n0,0.0,1.0,2.0\n1,,0.0,\n", "'0.0' in line 3 stands in train and in val"),
        (",train,val,test\n0,0.0,,2.0\n", r"1 patients of the cohort have no role in fold 0 \(01\)"),
        (",train,val,test\n0,a,b,c\n", "none of its 3 ids is a slide or patient of the cohort.*'0.0' and '00'"),
        (",train,label\n0,a,b\n", "columns are , train, label; expected CLAM's"),
        (",train,val\n0,0.0,1.0\n1,,2.0\n", "has no test side.*rename that column to 'test': milbench then draws"),
        (",train,val,test\n0,0.0,1.0,\n1,2.0,,\n", "has no test side"),
        (
            ",train,val,test\n0,0.0,1.0,1.0\n1,,2.0,2.0\n",
            "the test side is a copy of the val side.*Delete the column 'val'",
        ),
        (
            ",train,val,test\n0,0.0,1.0,x\n",
            r"1 patients .* no role.*1 of 3 ids of the split are not in the cohort \(x\)",
        ),
        (",train,val,test\n0,0.0,1.0,2.0\n1,,0.0.svs,\n", "'0.0.svs' stands on two sides, once spelled otherwise"),
        ("", "columns are none; expected CLAM's"),
        (",train,train,val,test\n0,00,01,02,02\n", "2 columns are called 'train'"),
    ],
)
def test_a_mistake_in_clams_files_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        read_split(clam(tmp_path / "clam", text), make_slides(3), TASKS)


def test_a_split_with_train_and_test_alone_gets_a_drawn_validation_side(tmp_path: Path) -> None:
    text = "\n".join(f"{i},{i:02d},{i + 10 if i < 2 else ''}" for i in range(10))
    split = read_split(clam(tmp_path / "c", f",train,test\n{text}\n"), make_slides(12), TASKS)
    assert sorted(split.table["fold_0"][:10]) == ["train"] * 8 + ["val"] * 2
    assert split.table["fold_0"].tolist()[10:] == ["test"] * 2
    assert "CLAM gives no validation side" in split.notes[-1]


def numbered(n: int) -> pd.DataFrame:
    """Slides and patients of all-digit ids, as pandas spoils them."""
    rows = {"slide_id": [str(10_000 + i) for i in range(n)], "patient_id": [str(90_000 + i) for i in range(n)]}
    return pd.DataFrame({**rows, "t": [float(i % 2) for i in range(n)]}).astype(
        {"slide_id": object, "patient_id": object}
    )


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (",train,val,test\n0,10000,10002.0,10003.0\n1,10001,,\n", "2 ids of the split end in .0, since pandas"),
        (",train,val,test\n0,10000.svs,10002.svs,10003.svs\n1,10001.svs,,\n", "4 ids of the split are file names"),
        (";train;val;test\n0;10000;10002;10003\n1;10001;;\n", ""),
        ("\ttrain\tval\ttest\n0\t90000\t90002\t90003.0\n1\t90001\t\t\n", "'90003.0' is read as '90003'"),
    ],
)
def test_ids_and_separators_of_other_programs_are_understood_and_said(tmp_path: Path, text: str, note: str) -> None:
    split = read_split(clam(tmp_path / "c", text), numbered(4), TASKS)
    assert split.table["fold_0"].tolist() == ["train", "train", "val", "test"]
    assert note in " ".join(split.notes)
    assert "not in the cohort" not in " ".join(split.notes)


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_saved_table_that_a_spreadsheet_saved_again_is_the_same_split(tmp_path: Path, separator: str) -> None:
    slides = numbered(60)
    split = make_split(slides, TASKS, "kfold")
    text = split.to_csv().replace("\n9", "\n9").replace(",", separator)
    spoilt = "\n".join(
        line.replace(separator, f".0{separator}", 1) if line[:1] == "9" else line for line in text.split("\n")
    )
    (tmp_path / "saved.csv").write_text(spoilt)
    again = make_split(slides, TASKS, str(tmp_path / "saved.csv"))
    assert again.sha256 == split.sha256
    assert "60 ids of the split end in .0" in again.notes[0]


@pytest.mark.parametrize("name", ["split.npz", "split.pkl"])
def test_a_file_that_is_no_table_is_told_what_is_expected(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "split.npz", train=["a"])
    (tmp_path / "split.npz").replace(tmp_path / name)
    with pytest.raises(
        SplitError, match=r"the split .*split\..*Expected a CSV table of milbench, CLAM.*one column per side"
    ):
        make_split(make_slides(3), TASKS, str(tmp_path / name))


def test_two_files_of_one_fold_are_named(tmp_path: Path) -> None:
    for name in ("splits_0.csv", "splits_00.csv"):
        (tmp_path / name).write_text(",train,val,test\n0,00,01,02\n")
    with pytest.raises(SplitError, match=r"splits_0\.csv and splits_00\.csv are both of fold 0"):
        read_split(tmp_path, make_slides(3), TASKS)


def test_clams_sides_in_capitals_are_sides(tmp_path: Path) -> None:
    split = read_split(clam(tmp_path, ",Train,VAL,Test\n0,00,01,02\n"), make_slides(3), TASKS)
    assert split.table["fold_0"].tolist() == ["train", "val", "test"]


def test_a_missing_number_is_named(tmp_path: Path) -> None:
    folder = clam(tmp_path / "clam", GOOD, GOOD, GOOD)
    (folder / "splits_1.csv").unlink()
    with pytest.raises(SplitError, match=r"splits_1\.csv is missing, but there is splits_2\.csv"):
        read_split(folder, make_slides(3), TASKS)


# ---- Patho-Bench ---------------------------------------------------------------------------------

HEADER = "case_id\tslide_id\tt\tfold_0\tfold_1\n"
ROWS = "00\t0.0\t0\ttrain\ttest\n01\t1.0\t1\ttrain\ttrain\n02\t2.0\t0\ttest\ttrain\n"


@pytest.mark.parametrize(("name", "separator"), [("k=all.tsv", "\t"), ("k=all.csv", ",")])
def test_patho_benchs_test_sides_stand_and_every_fold_gets_a_validation_side(
    tmp_path: Path, name: str, separator: str
) -> None:
    path = tmp_path / name
    path.write_text((HEADER + ROWS).replace("\t", separator))
    split = read_split(path, make_slides(3), TASKS)
    assert (split.table == "test").to_numpy().tolist() == [[False, False, True], [False] * 3, [False, True, False]]
    assert "the test side differs between folds" in split.notes[1]
    assert "Patho-Bench gives no validation side in 2 of 2 folds: 20% of their training patients" in split.notes[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + ROWS + "00\t3.0\t0\ttest\ttest\n", "patient 00 stands in train and, in line 5, in test of fold_0"),
        (HEADER + "00\t0.0\t0\ttrain\t\n", "fold_1 is '' in line 2; expected train, val, test. Few-shot"),
        ("case_id\tslide_id\tt\n00\t0.0\t0\n", "columns are case_id, slide_id, t; expected Patho-Bench's"),
        ("case_id\tslide_id\tt\tfold_1\n00\t0.0\t0\ttrain\n", "fold columns are fold_1; expected fold_0"),
        ("case_id\tslide_id\tt\n00\t0.0\n", "line 2 has 2 cells, the header has 3"),
    ],
)
def test_a_mistake_in_patho_benchs_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "k=all.tsv").write_text(text)
    with pytest.raises(SplitError, match=message):
        read_split(tmp_path, make_slides(3), TASKS)


# ---- STAMP ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ([], 'does not hold {"splits"'),
        ({"splits": []}, "at least one split"),
        ({"splits": [{"train_patients": ["00"]}]}, "split 0 has no list of texts 'test_patients'"),
        ({"splits": [{"train_patients": [0], "test_patients": []}]}, "no list of texts 'train_patients'"),
        ({"splits": [{"train_patients": ["00"], "test_patients": ["00"]}]}, "patient 00 stands in train and in test"),
        ({"splits": [{"train_patients": ["00"], "test_patients": ["02"]}]}, r"1 patients .* no role in fold 0 \(01\)"),
    ],
)
def test_a_mistake_in_stamps_file_is_named(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "splits.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(SplitError, match=message):
        read_split(tmp_path, make_slides(3), TASKS)


# ---- detection -----------------------------------------------------------------------------------


def test_a_folder_without_splits_or_with_those_of_two_tools_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"holds no splits that milbench knows\. Looked for: splits_0\.csv.*\(STAMP\)"):
        make_split(make_slides(3), TASKS, str(tmp_path))
    (tmp_path / "train_0.csv").write_text("")
    with pytest.raises(SplitError, match=r"It holds train_0\.csv\. If each side has a file of its own"):
        make_split(make_slides(3), TASKS, str(tmp_path))
    (clam(tmp_path, GOOD) / "splits.json").write_text("{}")
    with pytest.raises(SplitError, match=r"splits of more than one tool\. Name the file"):
        make_split(make_slides(3), TASKS, str(tmp_path))


def test_an_unknown_tool_and_a_place_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    split, slides = random_split(4, 1, 0), make_slides(4)
    with pytest.raises(UsageError, match=r"unknown tool 'stmp'\. Did you mean 'stamp'"):
        write_split(split, slides, "stmp", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_split(split, slides, "clam", tmp_path / "file" / "out")


# ---- the command and a run -----------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["clam", "pathobench", "stamp"])
def test_the_command_writes_splits_and_a_cohort_takes_them_back(
    milbench_here: Milbench, cohort_folder: Path, tool: str
) -> None:
    done = milbench_here("data", "splits", str(cohort_folder), "--to", tool, "--out", str(cohort_folder / "theirs"))
    assert done.returncode == 0, done.stderr
    assert "5 folds of the kfold split of toy" in done.stdout
    text = "name: toy\nlabels: labels.csv\nfeatures: features\nsplits: theirs\n"
    (cohort_folder / "cohort.yaml").write_text(text)
    again = milbench_here("data", "splits", str(cohort_folder), "--to", "clam", "--out", "again")
    assert again.returncode == 0, again.stderr
    assert "note: splits: theirs is of" in again.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere", "--to", "clam"), "unknown dataset, folder or YAML file 'nowhere'"),
        (("digits", "--to", "clm"), "unknown tool 'clm'. Did you mean 'clam'?"),
        (("digits", "--to", "clam", "--splits", "site"), "reads the tissue source site from TCGA barcodes"),
    ],
)
def test_a_mistake_of_the_command_ends_with_exit_code_2(
    milbench_here: Milbench, words: tuple[str, ...], message: str
) -> None:
    done = milbench_here("data", "splits", *words, "--out", "out")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


@pytest.mark.slow
def test_a_run_and_its_report_take_another_test_side_in_every_fold(
    milbench: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    patients = sorted(set(pd.read_csv(cohort_folder / "labels.csv")["case_id"]))
    sides = [patients[:12], patients[12:26]]
    folds = [{"train_patients": sorted(set(patients) - set(side)), "test_patients": side} for side in sides]
    (cohort_folder / "splits.json").write_text(json.dumps({"splits": folds}))
    words = ("--cohort", str(cohort_folder), "--splits", str(cohort_folder / "splits.json"), "--models", "tiny")
    done = milbench("run", *words, "--run", "out", "--workers", "1", *FAST)
    assert done.returncode == 0, done.stderr
    assert milbench("report", "out", "--out", "report").returncode == 0
    assert "variability of training and of the test patients" in (tmp_path / "report" / "index.md").read_text()
