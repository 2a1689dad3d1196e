"""Pipes, sockets and devices among labels, splits and settings are refused before anything waits for them."""

import os
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from milbench.cohorts.cohort_file import cohort_file
from milbench.errors import DataError, LabelTableError, SplitError
from milbench.labels import read_labels
from milbench.special_files import special_kind
from milbench.splits.files import read_split
from milbench.splits.table import Split

PIPE = "is a named pipe, not a file, and was not opened"


def test_files_folders_and_nothing_are_not_special(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert [special_kind(path) for path in (tmp_path, tmp_path / "file", tmp_path / "gone", Path("a\0b"))] == [""] * 4
    assert special_kind(Path("/dev/null")) == "a device"


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels.xlsx"])
def test_a_label_table_that_is_a_pipe(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(LabelTableError, match=PIPE):
        read_labels(tmp_path / name)


def test_a_label_of_torchmil_that_is_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    np.save(tmp_path / "labels" / "b.npy", np.array(1))
    os.mkfifo(tmp_path / "labels" / "a.npy")
    with pytest.raises(LabelTableError, match=PIPE):
        read_labels(tmp_path / "labels")


def test_a_split_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "splits_0.csv")
    slides = read_labels(_labels(tmp_path)).slides
    with pytest.raises(SplitError, match=PIPE):
        Split.from_csv(tmp_path / "splits_0.csv")
    for path in (tmp_path, tmp_path / "splits_0.csv"):
        with pytest.raises(SplitError, match=PIPE):
            read_split(path, slides, ["A"])


def test_a_cohort_yaml_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cohort.yaml")
    with pytest.raises(DataError, match=PIPE):
        cohort_file(tmp_path / "cohort.yaml")


def test_workbooks_that_expand_without_end_are_refused_before_they_do(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = "case_id", 1
    book.save(tmp_path / "far.xlsx")
    with pytest.raises(LabelTableError, match=r"far\.xlsx: the sheet 'Sheet' has 1,048,576 rows and 16,384 columns"):
        read_labels(tmp_path / "far.xlsx")
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("xl/workbook.xml", bytes(510_000_000))
    with pytest.raises(LabelTableError, match=r"bomb\.xlsx unpacks to 510,000,000 bytes"):
        read_labels(tmp_path / "bomb.xlsx")


@pytest.mark.parametrize(
    "xml", ["<Types>&b;</Types>", "<Types>", "", "\0", "<a/>", "<Types xmlns='x'><Override/></Types>"]
)
def test_workbooks_of_broken_xml_are_one_message(tmp_path: Path, xml: str) -> None:
    with zipfile.ZipFile(tmp_path / "labels.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", xml)
    with pytest.raises(LabelTableError, match=r"labels\.xlsx cannot be read as an Excel workbook"):
        read_labels(tmp_path / "labels.xlsx")


def _labels(folder: Path) -> Path:
    (folder / "labels.csv").write_text("case_id,slide_id,A\np,s,1\nq,t,0\n")
    return folder / "labels.csv"
