"""Label conventions: each recognised by its columns, reported, and refused with the place and the fix."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from milbench.cohorts.cohort import folder_cohort
from milbench.errors import DataError, LabelTableError
from milbench.labels import LabelTable, read_labels


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def write_xlsx(path: Path, *sheets: list[list[object]]) -> Path:
    book = Workbook()
    for number, rows in enumerate(sheets):
        sheet = book.active if number == 0 else book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def rows_of(table: LabelTable) -> list[list[object]]:
    return table.slides.replace({np.nan: None}).to_numpy().tolist()


# ---- words ---------------------------------------------------------------------------------------


def test_two_words_become_0_and_1_and_the_guess_is_a_warning_with_counts_and_fix(tmp_path: Path) -> None:
    table = read_labels(write(tmp_path / "l.csv", "case_id,slide_id,NRAS\np,s,Y_NRAS\nq,t,N_NRAS\nr,u,\nr,v,N_NRAS\n"))
    assert table.slides["NRAS"].tolist()[:2] == [1.0, 0.0]
    assert table.notes[1:] == ("NRAS: 1 labels are unknown (1 blank)",)
    assert "l.csv is a table as CLAM and M4 use it" in table.notes[0]
    guess = table.findings[0]
    assert (guess.severity, guess.task) == ("warning", "NRAS")
    assert guess.what == "NRAS: N_NRAS = 0 (2 slides), Y_NRAS = 1 (1 slide), by the meaning of the words"
    assert '`positive: {"NRAS": "Y_NRAS"}`' in guess.fix


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["Left", "Right", "", "NA", "nan", "N/a"]), min_size=1, max_size=9))
def test_words_without_meaning_map_as_sorted_and_cells_without_label_are_nan(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    words = [*words, "Right", "Left"]
    lines = ["case_id,slide_id,A", *(f"p,s{row},{word}" for row, word in enumerate(words))]
    path = write(tmp_path_factory.mktemp("words") / "l.csv", "\n".join(lines))
    expected = [{"Left": 0.0, "Right": 1.0}.get(word, np.nan) for word in words]
    table = read_labels(path)
    np.testing.assert_array_equal(table.slides["A"], expected)
    assert "in alphabetical order, because the words do not tell which is positive" in table.findings[0].what


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["a", "b", "c"],
            r"column 'A' holds 'a' for slide s0 \(line 2\).*exactly two words.*it holds a, b, c.*`tasks:`",
        ),
        (["a", "a"], "it holds a. Name the task columns"),
        (["1", "Y"], r"holds 'Y' for slide s1 \(line 3\)"),
        (["1", "2"], "holds '2'"),
        (
            ["0", "none", "unknown"],
            r"'none' for 1 slides, 'unknown' for 1 slides \(first in line 3, slide s1\) beside 0 \(1\)",
        ),
    ],
)
def test_a_column_that_is_neither_0_and_1_nor_two_words_is_refused(
    tmp_path: Path, cells: list[str], message: str
) -> None:
    text = "case_id,slide_id,A\n" + "".join(f"p,s{row},{cell}\n" for row, cell in enumerate(cells))
    with pytest.raises(LabelTableError, match=message):
        read_labels(write(tmp_path / "l.csv", text))


def test_columns_that_are_not_asked_for_may_hold_anything(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "case_id,slide_id,sex,A\np,s,?,1\nq,t,m,0\nr,u,f,1\n")
    assert list(read_labels(path, ["A"]).slides) == ["slide_id", "patient_id", "A"]


# ---- Excel ---------------------------------------------------------------------------------------


def test_a_workbook_keeps_ids_as_text_and_whole_numbers_without_a_point(tmp_path: Path) -> None:
    rows = [["case_id", "slide_id", "A"], ["007", 7.0, 1], [8, "x.1", 0.0], [None, None, None], ["9", "y", None]]
    table = read_labels(write_xlsx(tmp_path / "l.xlsx", rows))
    assert rows_of(table) == [["7", "007", 1.0], ["x.1", "8", 0.0], ["y", "9", None]]


def test_only_the_first_sheet_is_read_and_the_others_are_noted(tmp_path: Path) -> None:
    rows = [["case_id", "slide_id", "A"], ["p", "s", 1]]
    table = read_labels(write_xlsx(tmp_path / "l.xlsx", rows, [["legend"]]))
    assert "l.xlsx: only the first of 2 sheets was read ('Sheet')" in table.notes


def test_a_mistake_in_a_workbook_is_named_with_the_line_that_excel_shows(tmp_path: Path) -> None:
    rows = [["case_id", "slide_id", "A"], [None, None, None], ["p", "s", 3]]
    with pytest.raises(LabelTableError, match=r"holds '3' for slide s \(line 3\)"):
        read_labels(write_xlsx(tmp_path / "l.xlsx", rows))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("l.xlsx", "cannot be read as an Excel workbook .* Save it as .xlsx again, or as CSV"),
        ("l.xls", "ends in '.xls'; expected .csv, .tsv, .xlsx"),
    ],
)
def test_a_file_that_is_no_workbook_says_so(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(LabelTableError, match=message):
        read_labels(write(tmp_path / name, "case_id,slide_id,A\n"))


# ---- Patho-Bench ---------------------------------------------------------------------------------

PATHO_BENCH = "case_id\tslide_id\tBAP1\tfold_0\tfold_1\n1\t1.a\t0\ttrain\ttest\n2\t2.a\t1\ttest\ttrain\n"


def test_fold_columns_of_patho_bench_are_no_labels(tmp_path: Path) -> None:
    table = read_labels(write(tmp_path / "k=all.tsv", PATHO_BENCH))
    assert rows_of(table) == [["1.a", "1", 0.0], ["2.a", "2", 1.0]]
    assert "Patho-Bench table; its 2 fold columns are used where `splits:` names it" in table.notes[0]


def test_a_table_with_folds_but_no_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match="no task column beside case_id and slide_id and fold_0"):
        read_labels(write(tmp_path / "k.tsv", "case_id\tslide_id\tfold_0\n1\t1\ttrain\n"))


# ---- STAMP ---------------------------------------------------------------------------------------

CLINI = "PATIENT,isMSIH,KRAS\np,MSIH,1\nq,nonMSIH,\nr,MSIH,0\n"
SLIDES = "FILENAME,PATIENT\nfeats/q.1.h5,q\np.1.h5,p\np.2.h5,p\nz.h5,z\n"


def test_a_clini_table_gives_its_labels_to_every_slide_of_the_patient(tmp_path: Path) -> None:
    table = read_labels(write(tmp_path / "clini.csv", CLINI), slides=write(tmp_path / "slide.csv", SLIDES))
    assert rows_of(table) == [["q.1", "q", 0.0, None], ["p.1", "p", 1.0, 1.0], ["p.2", "p", 1.0, 1.0]]
    assert table.notes[1:] == ("KRAS: 1 labels are unknown (1 blank)",)
    assert [(finding.severity, finding.what) for finding in table.findings] == [
        ("warning", "isMSIH: nonMSIH = 0 (1 patient), MSIH = 1 (2 patients), by the meaning of the words"),
        ("note", "1 slides belong to patients without a line in the clini table: left out"),
        ("note", "1 patients of the clini table have no slide: left out"),
    ]


def test_patients_that_the_two_tables_spell_differently_are_named(tmp_path: Path) -> None:
    slides = SLIDES.replace("z.h5,z", "z.h5,TCGA-3C-AALI-01Z")
    clini = write(tmp_path / "clini.csv", CLINI + "tcga-3c-aali,MSIH,0\n")
    findings = read_labels(clini, slides=write(tmp_path / "slide.csv", slides)).findings[1:]
    assert [finding.severity for finding in findings] == ["warning", "warning"]
    assert "'TCGA-3C-AALI-01Z' in the slide table and 'tcga-3c-aali' in the clini table" in findings[0].fix


def test_one_table_may_be_clini_and_slide_table_at_once(tmp_path: Path) -> None:
    table = read_labels(write(tmp_path / "c.csv", "PATIENT,FILENAME,A\np,a.h5,1\np,b.h5,1\nq,c.h5,0\n"))
    assert rows_of(table) == [["a", "p", 1.0], ["b", "p", 1.0], ["c", "q", 0.0]]


@pytest.mark.parametrize(
    ("clini", "slides", "message"),
    [
        (CLINI, None, r"clini.csv: column 'FILENAME' is missing.*Name the slide table with `slides:`"),
        (CLINI, "PATIENT,FILE\np,p.h5\n", r"slide.csv: column 'FILENAME' is missing.*found PATIENT, FILE"),
        (CLINI + "p,MSIH,1\n", SLIDES, r"1 patient id \(p\) in more than one line. Keep one line per patient"),
        (CLINI, SLIDES + "p.1,p\n", r"1 slide id \(p.1\) in more than one line"),
        (CLINI, "PATIENT,FILENAME\np,\n", "FILENAME is blank in line 2"),
        (
            CLINI,
            "PATIENT,FILENAME\nx,x.h5\n",
            "no PATIENT of it is in the slide table, which begins with 'x'; here 'p'",
        ),
        ("PATIENT,A\np,5\n", SLIDES, r"column 'A' holds '5' for patient p \(line 2\)"),
        ("PATIENT\np\n", SLIDES, "no task column beside PATIENT"),
        ("case_id,slide_id,A\np,s,1\n", SLIDES, "is not STAMP's clini table .* Delete `slides:`"),
    ],
)
def test_a_mistake_in_stamps_tables_is_named(tmp_path: Path, clini: str, slides: str | None, message: str) -> None:
    place = write(tmp_path / "slide.csv", slides) if slides else None
    with pytest.raises(LabelTableError, match=message):
        read_labels(write(tmp_path / "clini.csv", clini), slides=place)


# ---- torchmil ------------------------------------------------------------------------------------


def torchmil_folder(folder: Path, labels: dict[str, object]) -> Path:
    folder.mkdir()
    for name, label in labels.items():
        np.save(folder / f"{name}.npy", np.array(label))
    return folder


def test_a_folder_of_arrays_is_torchmils_and_each_slide_a_patient(tmp_path: Path) -> None:
    table = read_labels(torchmil_folder(tmp_path / "labels", {"b.1": 1, "a": [0]}))
    assert rows_of(table) == [["a", "a", 0.0], ["b.1", "b.1", 1.0]]
    assert list(table.slides)[2] == "label"
    assert "each slide is taken for a patient" in table.notes[1]


def test_patients_of_torchmils_slides_come_from_the_table_beside(tmp_path: Path) -> None:
    folder = torchmil_folder(tmp_path / "labels", {"a": 0, "b": 1})
    write(tmp_path / "patients.csv", "slide_id,case_id\nb,p\na,p\n")
    table = read_labels(folder)
    assert table.slides["patient_id"].tolist() == ["p", "p"]
    write(tmp_path / "patients.csv", "slide_id,case_id\nb,p\n")
    with pytest.raises(LabelTableError, match=r"1 slides have no line \(a\)"):
        read_labels(folder)


def test_torchmils_hdf5_labels_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    with h5py.File(tmp_path / "labels" / "a.h5", "w") as file:
        file["labels"] = np.array([1])
    assert rows_of(read_labels(tmp_path / "labels")) == [["a", "a", 1.0]]


@pytest.mark.parametrize("label", [[0, 1], 2, "1", np.nan])
def test_a_label_file_without_exactly_one_0_or_1_is_refused(tmp_path: Path, label: object) -> None:
    with pytest.raises(LabelTableError, match=r"a\.npy holds .* expected one number, 0 or 1"):
        read_labels(torchmil_folder(tmp_path / "labels", {"a": label}))


def test_a_damaged_or_pickled_label_file_is_never_unpickled(tmp_path: Path) -> None:
    folder = torchmil_folder(tmp_path / "labels", {})
    with pytest.raises(LabelTableError, match=r"holds neither \.npy nor \.h5"):
        read_labels(folder)
    np.save(folder / "a.npy", np.array({"label": 1}, dtype=object), allow_pickle=True)
    with pytest.raises(LabelTableError, match=r"a\.npy cannot be read as a label"):
        read_labels(folder)


# ---- cohorts -------------------------------------------------------------------------------------


def as_stamp(cohort: Path) -> None:
    """Rewrite a cohort's labels.csv as STAMP's two tables."""
    table = read_labels(cohort / "labels.csv").slides
    clini = table.drop_duplicates("patient_id").rename(columns={"patient_id": "PATIENT"})[["PATIENT", "A"]]
    clini.to_csv(cohort / "clini.csv", index=False)
    files = table.rename(columns={"patient_id": "PATIENT"}).assign(FILENAME=table["slide_id"] + ".h5")
    files[["PATIENT", "FILENAME"]].to_csv(cohort / "slide.csv", index=False)
    (cohort / "labels.csv").unlink()


def test_a_folder_with_stamps_tables_is_a_cohort(cohort_folder: Path) -> None:
    expected = folder_cohort(cohort_folder).slides[["slide_id", "patient_id", "A"]]
    as_stamp(cohort_folder)
    cohort = folder_cohort(cohort_folder)
    pd.testing.assert_frame_equal(cohort.slides, expected)
    assert any("STAMP's clini table" in note for note in cohort.notes)


def test_a_yaml_file_names_the_slide_table(cohort_folder: Path) -> None:
    as_stamp(cohort_folder)
    (cohort_folder / "slide.csv").rename(cohort_folder / "files.csv")
    path = write(cohort_folder / "c.yaml", "name: c\nlabels: clini.csv\nslides: files.csv\nfeatures: features\n")
    assert len(folder_cohort(path).slides) == 48


def test_a_folder_with_two_label_tables_asks_which_is_meant(cohort_folder: Path) -> None:
    write(cohort_folder / "clini.csv", CLINI)
    with pytest.raises(DataError, match=r"holds labels\.csv and clini\.csv; which is meant\? Say so in a cohort\.yaml"):
        folder_cohort(cohort_folder)


def test_a_folder_with_patho_benchs_table_is_a_cohort_with_its_splits(cohort_folder: Path) -> None:
    rows = pd.read_csv(cohort_folder / "labels.csv", dtype=str)
    rows.assign(fold_0="train").to_csv(cohort_folder / "k=all.tsv", sep="\t", index=False)
    (cohort_folder / "labels.csv").unlink()
    cohort = folder_cohort(cohort_folder)
    assert (cohort.tasks, cohort.splits) == (("A", "B"), str(cohort_folder / "k=all.tsv"))


def test_a_protocols_name_wins_over_a_folder_of_that_name(cohort_folder: Path) -> None:
    (cohort_folder / "m4").mkdir()
    path = write(cohort_folder / "c.yaml", "name: c\nlabels: labels.csv\nfeatures: features\nsplits: m4\n")
    assert folder_cohort(path).splits == "m4"
