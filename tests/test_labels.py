"""Label tables: read as text, checked cell by cell."""

from pathlib import Path

import numpy as np
import pytest

from milbench.errors import LabelTableError
from milbench.labels import contradictions, one_class_tasks, read_labels


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("utf-8"))
    return path


def test_ids_are_text_and_blanks_are_unknown(tmp_path: Path) -> None:
    slides = read_labels(table(tmp_path, "case_id,slide_id,A,B\n007,1.0,1,\n008,2.50,0,1\n"))
    assert slides["patient_id"].tolist() == ["007", "008"]
    assert slides["slide_id"].tolist() == ["1.0", "2.50"]
    assert slides["A"].tolist() == [1.0, 0.0]
    assert np.isnan(slides["B"][0])


def test_byte_order_marks_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    slides = read_labels(table(tmp_path, "\ufeffcase_id,slide_id,A\r\np,s,1\r\n"))
    assert slides.iloc[0].tolist() == ["s", "p", 1.0]


def test_an_id_that_reads_like_a_missing_value_stays_an_id(tmp_path: Path) -> None:
    assert read_labels(table(tmp_path, "case_id,slide_id,A\nNA,nan,1\n"))["patient_id"].tolist() == ["NA"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,slide_id,A\np,s,1\n", "column 'case_id' is missing"),
        ("case_id,slide_id\np,s\n", "no task column"),
        ("case_id,slide_id,A\np,s,2\n", r"column 'A' holds '2' for slide s \(line 2\); expected 0, 1 or blank"),
        ("case_id,slide_id,A\np,s,Y_TP53\n", "holds 'Y_TP53'"),
        ("case_id,slide_id,A\np,s,1\np,s,1\n", r"1 slide id \(s\) in more than one line"),
        ("case_id,slide_id,A\np,,1\n", "slide_id is blank in line 2"),
        ("", "cannot be read as a CSV"),
        ('case_id,slide_id,A\np,s,1,9,9\n"', "cannot be read as a CSV"),
    ],
)
def test_a_bad_table_is_one_error_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelTableError, match=message):
        read_labels(table(tmp_path, text))


def test_a_missing_table_and_an_unknown_task_are_named(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"nowhere\.csv does not exist"):
        read_labels(tmp_path / "nowhere.csv")
    with pytest.raises(LabelTableError, match="Did you mean 'TP53'"):
        read_labels(table(tmp_path, "case_id,slide_id,TP53\np,s,1\n"), ["TP35"])


def test_contradictory_patients_are_counted_per_task(tmp_path: Path) -> None:
    slides = read_labels(table(tmp_path, "case_id,slide_id,A,B\np,s1,1,0\np,s2,0,\nq,s3,1,1\n"))
    assert contradictions(slides, ["A", "B"]) == ["A: 1 patients have contradictory labels on their slides"]


def test_a_task_with_one_class_is_noted(tmp_path: Path) -> None:
    slides = read_labels(table(tmp_path, "case_id,slide_id,A,B\np,s1,1,0\nq,s2,1,1\n"))
    assert [note.split(":")[0] for note in one_class_tasks(slides, ["A", "B"])] == ["A"]
