"""kaiko-eva's manifest: labels and one split from one table; patients only where a column names them."""

from pathlib import Path

import pytest

from milbench.errors import SplitError
from milbench.labels import read_labels, slide_ids, suggested_tasks
from milbench.splits import make_split

SIDES = ("train", "train", "val", "test")


def manifest(folder: Path, header: str = "origin,embeddings,target,split", more: str = "") -> Path:
    lines = [f"in/s.{i}.tif,normal/s.{i}.pt,{i % 2},{side}{more}" for i, side in enumerate(SIDES)]
    path = folder / "manifest.csv"
    path.write_text("\r\n".join([header, *lines, ""]))
    return path


def test_the_target_is_the_task_and_the_file_of_embeddings_names_the_slide(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    labels = read_labels(path)
    assert labels.slides.columns.tolist() == ["slide_id", "patient_id", "target"]
    assert labels.slides["slide_id"].tolist() == ["s.0", "s.1", "s.2", "s.3"]
    assert labels.slides["target"].tolist() == [0, 1, 0, 1]
    assert labels.slides["patient_id"].tolist() == labels.slides["slide_id"].tolist()
    assert any("names no patients, so each slide counts as a patient of its own" in note for note in labels.notes)
    assert slide_ids(path) == {"s.0", "s.1", "s.2", "s.3"}
    assert suggested_tasks(path) == {}


def test_a_metadata_column_of_patients_is_heeded(tmp_path: Path) -> None:
    path = manifest(tmp_path, "origin,embeddings,target,split,patient_id", ",p1")
    assert set(read_labels(path).slides["patient_id"]) == {"p1"}


def test_its_split_is_one_fold(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    slides = read_labels(path).slides
    for named in (path, tmp_path):
        split = make_split(slides, ["target"], str(named))
        assert split.n_folds == 1
        assert split.table["fold_0"].tolist() == list(SIDES)
        assert "of kaiko-eva, 1 folds of slide ids" in split.notes[0] or "patient ids" in split.notes[0]


def test_a_slide_without_a_side_is_named_by_its_line(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    path.write_text(path.read_text().replace(",val", ","))
    with pytest.raises(SplitError, match=r"manifest\.csv: split is '' in line 4; expected train, val, test"):
        make_split(read_labels(path).slides, ["target"], str(path))


def test_a_manifest_without_a_test_side_is_no_split(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    path.write_text(path.read_text().replace(",test", ",val"))
    with pytest.raises(SplitError, match=r"manifest\.csv names no test side\. If its val side was only reported on"):
        make_split(read_labels(path).slides, ["target"], str(path))


def test_a_manifest_of_another_tool_is_not_taken_for_it(tmp_path: Path) -> None:
    slides = read_labels(manifest(tmp_path)).slides
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.csv").write_text("patient_id,fold_0\ns.0,train\n")
    with pytest.raises(SplitError, match=r"the folder .* holds no splits that milbench knows"):
        make_split(slides, ["target"], str(tmp_path / "other"))
