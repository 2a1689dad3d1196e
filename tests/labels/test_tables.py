"""Label tables: read as text, checked cell by cell."""

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milbench.errors import LabelTableError
from milbench.labels import Stated, contradictions, one_class_tasks, read_labels


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("utf-8"))
    return path


def test_ids_are_text_and_blanks_are_unknown(tmp_path: Path) -> None:
    slides = read_labels(table(tmp_path, "case_id,slide_id,A,B\n007,1.0,1,\n008,2.50,0,1\n")).slides
    assert slides["patient_id"].tolist() == ["007", "008"]
    assert slides["slide_id"].tolist() == ["1.0", "2.50"]
    assert slides["A"].tolist() == [1.0, 0.0]
    assert np.isnan(slides["B"][0])


def test_byte_order_marks_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    slides = read_labels(table(tmp_path, "\ufeffcase_id,slide_id,A\r\np,s,1\r\n")).slides
    assert slides.iloc[0].tolist() == ["s", "p", 1.0]


def test_blanks_around_cells_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    slides = read_labels(table(tmp_path, "case_id, slide_id ,A\n\n p , s ,  1 \n,,\n")).slides
    assert slides.iloc[0].tolist() == ["s", "p", 1.0]
    assert slides.index.tolist() == [0]


def test_an_empty_column_without_name_is_no_task(tmp_path: Path) -> None:
    slides = read_labels(table(tmp_path, "case_id,slide_id,A,\np,s,1,\nq,t,0,\n")).slides
    assert list(slides) == ["slide_id", "patient_id", "A"]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("pqr"), st.sampled_from(["0", "1", ""]), st.sampled_from(["0.0", "1.0", ""])),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_is_what_is_read(rows: list[tuple[str, str, str]], line_end: str) -> None:
    lines = ["case_id,slide_id,A,B", *(f"{case},s.{row},{a},{b}" for row, (case, a, b) in enumerate(rows))]
    with tempfile.TemporaryDirectory() as folder:
        slides = read_labels(table(Path(folder), line_end.join(lines))).slides
    assert slides["slide_id"].tolist() == [f"s.{row}" for row in range(len(rows))]
    assert slides["patient_id"].tolist() == [case for case, _, _ in rows]
    for column, place in (("A", 1), ("B", 2)):
        expected = [float(row[place]) if row[place] else np.nan for row in rows]
        np.testing.assert_array_equal(slides[column], expected)


def test_a_slide_that_reads_like_a_missing_value_stays_a_slide(tmp_path: Path) -> None:
    assert read_labels(table(tmp_path, "case_id,slide_id,A\np,nan,1\n")).slides["slide_id"].tolist() == ["nan"]


@pytest.mark.parametrize("word", ["NA", "nan", "None", "unknown", "N/A", "null"])
def test_a_patient_that_reads_like_a_missing_value_is_refused_with_all_its_lines(tmp_path: Path, word: str) -> None:
    rows = f"p,s1,1\n{word},s2,0\nq,s3,0\n{word},s4,1\n"
    with pytest.raises(LabelTableError, match=rf"case_id is '{word}' in lines 3, 5, which is no id"):
        read_labels(table(tmp_path, f"case_id,slide_id,A\n{rows}"))


def test_an_id_that_only_contains_such_a_word_stays_an_id(tmp_path: Path) -> None:
    labels = read_labels(table(tmp_path, "case_id,slide_id,A\nNA-1,s1,1\nNaN2,s2,0\n"))
    assert labels.slides["patient_id"].tolist() == ["NA-1", "NaN2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,slide_id,A\np,s,1\n", "column 'case_id' is missing"),
        ("case_id,slide_id\np,s\n", "no task column"),
        ("case_id,slide_id,A\np,s,2\n", r"column 'A' holds '2' for slide s \(line 2\); expected 0, 1 or blank"),
        ("case_id,slide_id,A\np,s,Y_TP53\n", "holds 'Y_TP53'"),
        ("case_id,slide_id,A\np,s,1\np,s,1\n", r"1 slide id \(s\) in more than one line"),
        ("case_id,slide_id,A\np,,1\n", "slide_id is blank in line 2"),
        ("case_id,slide_id,A\n\n\np,s,2\n", r"slide s \(line 4\)"),
        ("", "has no line below its header"),
        ("case_id,slide_id,A\n", "has no line below its header"),
        ('case_id,slide_id,A\n"p,s,1\n', "cannot be read as a CSV"),
        ("case_id,slide_id,A\np,s,1,\n", "line 2 has 4 cells, the header has 3"),
        ("case_id,slide_id,A\np,s,1\nq,t\n", "line 3 has 2 cells, the header has 3"),
        ("case_id,slide_id,A,A\np,s,1,0\n", "2 columns are called 'A'"),
        (",case_id,slide_id,A\n0,p,s,1\n", "column 1 has values but no name.*index=False"),
        ("sep=,\ncase_id,slide_id,A\n", r"line 2 has 3 cells, the header has 2 \(line 1: sep=, \)"),
        ('case_id,slide_id,A\np,s,1\nq,"t,0\nr,u,1\n', "the row that begins in line 3 does not end as a row does"),
        ("case_id,slide_id,A\np,s\0,1\n", "line 2 holds a NUL character"),
        ("case_id,slide_id,patient_id\np,s,1\n", "the column 'patient_id' would be a task"),
        ("case_id,slide_id,A\n#REF!,s,1\n", "case_id is '#REF!' in line 2, which is no id"),
        ("case_id,slide_id,A\n-,s,1\nq,t,0\n-,u,1\n", "case_id is '-' in lines 2, 4, which is no id"),
        ("case_id,slide_id,A\nunbekannt,s,1\nunbekannt,t,0\n", "'unbekannt' in lines 2, 3, which is no id"),
        ("case_id,slide_id,A\n1.23457E+11,s,1\nq,t,0\n", "'1.23457E.11' in line 2.*last digits are lost"),
    ],
)
def test_a_bad_table_is_one_error_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelTableError, match=message):
        read_labels(table(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "name", "note"),
    [
        ("case_id;slide_id;A\np;s;1\n", "labels.csv", "labels.csv is separated by semicolons, where commas are usual"),
        ("case_id\tslide_id\tA\np\ts\t1\n", "labels.csv", "labels.csv is separated by tabs, where commas are usual"),
        ("case_id,slide_id,A\np,s,1\n", "labels.tsv", "labels.tsv is separated by commas, where tabs are usual"),
        ("case_id;slide_id;A;age\np;s;1;60,5\n", "labels.csv", "labels.csv is separated by semicolons"),
    ],
)
def test_another_separator_is_read_and_named(tmp_path: Path, text: str, name: str, note: str) -> None:
    (tmp_path / name).write_text(text)
    labels = read_labels(tmp_path / name, ["A"])
    assert labels.slides.iloc[0].tolist() == ["s", "p", 1.0]
    assert note in " ".join(labels.notes)


def test_semicolons_inside_cells_of_a_table_with_commas_stay_cells(tmp_path: Path) -> None:
    labels = read_labels(table(tmp_path, "case_id,slide_id,A\np;1,s;1,1\n"))
    assert labels.slides.iloc[0].tolist() == ["s;1", "p;1", 1.0]
    assert not any("separated" in note for note in labels.notes)


def test_a_workbook_of_broken_xml_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "labels.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types>&b;</Types>")
    with pytest.raises(LabelTableError, match=r"labels\.xlsx cannot be read as an Excel workbook"):
        read_labels(tmp_path / "labels.xlsx")


def test_a_table_that_is_no_utf_8_says_so(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes("case_id,slide_id,A\np,s,1\n".encode("utf-16"))
    with pytest.raises(LabelTableError, match="Save it as comma-separated UTF-8"):
        read_labels(path)


def test_a_missing_table_and_an_unknown_task_are_named(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"nowhere\.csv does not exist"):
        read_labels(tmp_path / "nowhere.csv")
    with pytest.raises(LabelTableError, match="Did you mean 'TP53'"):
        read_labels(table(tmp_path, "case_id,slide_id,TP53\np,s,1\n"), ["TP35"])


def test_contradictory_patients_are_counted_per_task(tmp_path: Path) -> None:
    slides = read_labels(table(tmp_path, "case_id,slide_id,A,B\np,s1,1,0\np,s2,0,\nq,s3,1,1\n")).slides
    assert [finding.what for finding in contradictions(slides, ["A", "B"])] == [
        "A: 1 patient has contradictory labels on their slides"
    ]


def test_a_task_with_one_class_is_noted(tmp_path: Path) -> None:
    slides = read_labels(table(tmp_path, "case_id,slide_id,A,B\np,s1,1,0\nq,s2,1,1\n")).slides
    assert [finding.task for finding in one_class_tasks(slides, ["A", "B"])] == ["A"]


def test_a_patient_called_by_a_word_that_tells_nothing_stays_if_it_occurs_once(tmp_path: Path) -> None:
    labels = read_labels(table(tmp_path, "case_id,slide_id,A\n-,s,1\nND,t,0\n"))
    assert labels.slides["patient_id"].tolist() == ["-", "ND"]


def test_the_own_name_of_an_id_may_stand_beside_the_tasks_that_are_named(tmp_path: Path) -> None:
    labels = read_labels(table(tmp_path, "case_id,slide_id,patient_id,A\np,s,1,1\n"), ["A"])
    assert labels.slides.iloc[0].tolist() == ["s", "p", 1.0]


def test_a_word_for_unknown_that_no_cell_holds_is_told(tmp_path: Path) -> None:
    path = table(tmp_path, "case_id,slide_id,A\np,s,1\nq,t,Not Reported\nr,u,0\n")
    told = read_labels(path, stated=Stated(unknown=("not reported", "NE"))).findings
    assert [finding.what for finding in told] == ["`unknown:` names 'NE', and no cell holds that"]
    assert not read_labels(path, stated=Stated(unknown=("not reported",))).findings


def workbook(tmp_path: Path, change: Callable[[openpyxl.Workbook], None]) -> Path:
    book = openpyxl.Workbook()
    for row in (("case_id", "slide_id", "A"), ("p", "s", 1), ("q", "t", 0)):
        book.active.append(row)
    change(book)
    book.save(tmp_path / "labels.xlsx")
    return tmp_path / "labels.xlsx"


def test_a_formula_whose_value_was_never_stored_is_no_unknown_label(tmp_path: Path) -> None:
    path = workbook(tmp_path, lambda book: book.active.__setitem__("C3", "=1-1"))
    with pytest.raises(
        LabelTableError, match="cell C3 of the sheet 'Sheet' holds a formula whose value was never stored"
    ):
        read_labels(path)


def test_rows_that_a_filter_hides_are_read_and_counted(tmp_path: Path) -> None:
    labels = read_labels(workbook(tmp_path, lambda book: setattr(book.active.row_dimensions[3], "hidden", True)))
    assert len(labels.slides) == 2
    assert any("1 rows that a filter hides were read too" in note for note in labels.notes)


def test_an_empty_first_sheet_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path, lambda book: book.create_sheet("notes", 0))
    with pytest.raises(
        LabelTableError, match=r"no line below its header \(.*only the first of 2 sheets was read \('notes'\)"
    ):
        read_labels(path)


def test_a_refusal_says_how_the_table_was_understood(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("case_id;slide_id;age\np1;s1;60,5\np2;s2;61,5\np3;s3;62,5\n")
    with pytest.raises(LabelTableError, match=r"column 'age' holds '60,5'.*is separated by semicolons"):
        read_labels(path)
