"""The same slide under two ids: found by whole contents, and told the louder the more it spoils."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from zarr_stores import write_wsidata

from milbench.cohorts.fingerprint import FINGERPRINT_BYTES
from milbench.intake import copies
from milbench.intake.copies import copy_findings, same_files
from milbench.splits import Split

TABLE = pd.DataFrame(
    [("a", "p", 1.0), ("b", "p", 1.0), ("c", "p", 0.0), ("d", "q", 1.0), ("e", "q", 0.0), ("f", "r", 1.0)],
    columns=["slide_id", "patient_id", "A"],
)
SPLIT = Split(pd.DataFrame({"patient_id": ["p", "q", "r"], "fold_0": ["train", "test", "train"]}), "mine")


def files(folder: Path, **contents: bytes) -> dict[str, Path]:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_files_that_agree_at_both_ends_only_are_no_copies(tmp_path: Path) -> None:
    ends = bytes(FINGERPRINT_BYTES)
    same, other = ends + b"same" + ends, ends + b"else" + ends
    paths = files(tmp_path, a=same, b=other, c=same, d=same + b"!", e=b"", f=other)
    assert same_files(paths, paths) == [["a", "c"], ["b", "f"]]


def test_only_files_that_may_be_equal_are_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = copies._content
    monkeypatch.setattr(copies, "_content", lambda path: read.append(path.name) or whole(path))
    paths = files(tmp_path, a=b"one", b=b"two", c=b"three", d=b"three")
    assert copies.same_files(paths, paths) == [["c", "d"]]
    assert read == ["c", "d"]


def test_stores_of_equal_files_are_copies(tmp_path: Path) -> None:
    for slide, value in {"a": 1, "b": 1, "c": 2}.items():
        write_wsidata(tmp_path / f"{slide}.zarr", np.full((3, 2), value, np.float32), np.arange(6).reshape(3, 2))
    paths = {slide: tmp_path / f"{slide}.zarr/tables/uni_tiles" for slide in ("a", "b", "c")}
    assert same_files(paths, paths) == [["a", "b"]]


def test_a_file_that_cannot_be_read_is_left_to_others(tmp_path: Path) -> None:
    paths = files(tmp_path, a=b"x", b=b"x") | {"gone": tmp_path / "gone"}
    assert same_files(paths, paths) == [["a", "b"]]


@pytest.mark.parametrize(
    ("group", "severity", "words"),
    [
        (["a", "b"], "warning", "1 group of slides holds the same file: a = b"),
        (["a", "c"], "warning", "holds the same file with different labels: a = c"),
        (["a", "f"], "warning", "holds the same file, of different patients: a = f"),
        (["c", "f"], "warning", "holds the same file, of different patients and with different labels: c = f"),
        (["a", "d"], "error", "of different patients and on two sides of a fold, so that the test leaks: a = d"),
    ],
)
def test_copies_are_told_by_what_they_spoil(group: list[str], severity: str, words: str) -> None:
    (found,) = copy_findings("the same file", [group], TABLE, ["A"], SPLIT)
    assert found.severity == severity
    assert words in found.what
    (meant,) = copy_findings("the same file", [group], TABLE, ["A"], SPLIT, as_given=True)
    assert (meant.severity, meant.what) == ("warning", found.what)


def test_the_worst_copies_are_told_first_and_each_kind_once() -> None:
    found = copy_findings("the same features", [["a", "b"], ["c", "f"], ["e", "f"], ["a", "d"]], TABLE, ["A"], SPLIT)
    assert [finding.severity for finding in found] == ["error", "warning", "warning"]
    assert found[0].what.startswith("2 groups of slides hold the same features, of different patients and on two sides")


def test_unknown_labels_contradict_nothing() -> None:
    table = TABLE.assign(A=[1.0, float("nan"), 0.0, 1.0, 0.0, 1.0])
    (found,) = copy_findings("the same file", [["a", "b"]], table, ["A"], SPLIT)
    assert "different labels" not in found.what
