"""One list of findings: what `check` prints is what `run` heeds, and what its folder and the report keep."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands_for_tests import FAST, PLUGIN, Milbench
from folders_for_tests import WIDTH, make_folder_cohort, write_h5

from milbench.cohorts.cohort import folder_cohort
from milbench.cohorts.cohort_file import cohort_file
from milbench.errors import DataError
from milbench.intake.check import check_cohort
from milbench.labels.finding import NOTE, Finding, of_tasks, worst_first
from milbench.runs.config import make_config
from milbench.runs.preparation import Benchmark, prepare

RUN = ("run", "--run", "out", "--models", "tiny", "--folds", "0", "--workers", "1", *FAST)


def prepared(cohort: Path, *tasks: str) -> Benchmark:
    flags = {"cohorts": [str(cohort)], "models": ["tiny"], "plugins": [PLUGIN], "tasks": list(tasks)}
    return prepare(make_config(None, [], flags))


def checked(cohort: Path) -> tuple[Finding, ...]:
    return check_cohort(cohort_file(cohort), lambda slides, *_: slides).problems


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a note", "a note. Do it."),
        ("a sentence.", "a sentence. Do it."),
        ("a sentence. (With another one.)", "a sentence. (With another one.) Do it."),
        ("a, b, ...", "a, b, ... Do it."),
        ("a list (a, ...)", "a list (a, ...). Do it."),
    ],
)
def test_the_text_of_a_finding_ends_each_sentence_once(what: str, text: str) -> None:
    assert Finding(NOTE, what, "Do it.").text == text
    assert Finding(NOTE, what).text == text.removesuffix(" Do it.")


def relabel(folder: Path, **columns: object) -> pd.DataFrame:
    table = pd.read_csv(folder / "labels.csv").assign(**columns)
    table.to_csv(folder / "labels.csv", index=False)
    return table


def spoiled(folder: Path) -> Path:
    """A cohort with something of every kind that is no error."""
    table = relabel(folder)
    words = np.where(table["A"] == 1, "stained", "blank")
    words[0] = "stained" if words[0] == "blank" else "blank"
    relabel(folder, A=words, B=0, **{"MSI/MMR": np.where(np.arange(len(table)) % 2, "", "0.75")}, C=[9, 10] * 24)
    table = pd.read_csv(folder / "labels.csv", dtype=str, keep_default_na=False)
    table.loc[1::4, "MSI/MMR"] = "0.25"
    table.to_csv(folder / "labels.csv", index=False)
    slides = sorted((folder / "features").iterdir())
    shutil.copy(slides[0], slides[1])
    return folder


def test_check_and_run_make_the_same_list(cohort_folder: Path) -> None:
    folder = spoiled(cohort_folder)
    findings = prepared(folder).entries[0].findings
    assert findings == checked(folder)
    told = "\n".join(map(str, findings))
    for words in (
        "warning: A: blank = 0 (",
        "warning: A: 1 patient has contradictory labels",
        "warning: B: only one class",
        "warning: C: 9 = 0 (24 slides), 10 = 1 (24 slides), in the order of the numbers",
        "warning: 1 group of slides holds the same file with different labels",
        "note: no folder can be called 'MSI/MMR'",
        "note: MSI/MMR: 12 slides have no label",
    ):
        assert words in told


def test_findings_about_tasks_that_are_not_run_are_left_out(cohort_folder: Path) -> None:
    folder = spoiled(cohort_folder)
    assert {finding.task for finding in prepared(folder, "C").entries[0].findings} == {"", "C"}


def test_a_healthy_cohort_keeps_its_fingerprint_and_has_no_finding(tmp_path: Path) -> None:
    folder = make_folder_cohort(tmp_path / "toy", n_patients=150)
    before = folder_cohort(folder).fingerprint
    (folder / "cohort.yaml").write_text("name: toy\nlabels: labels.csv\nfeatures: features\npatients: as_given\n")
    assert folder_cohort(folder).fingerprint == before
    assert prepared(folder).entries[0].findings == ()


def leaking(folder: Path) -> Path:
    """Every slide of a patient under an id of its own, which differ in spelling only."""
    table = pd.read_csv(folder / "labels.csv")
    relabel(
        folder,
        case_id=[
            f"{p}{' ' * int(again)}X" for p, again in zip(table["case_id"], table["case_id"].duplicated(), strict=True)
        ],
    )
    return folder


def test_parted_patients_are_refused_by_check_plan_run_and_splits_alike(
    cohort_folder: Path, milbench_here: Milbench
) -> None:
    leaking(cohort_folder)
    words = "16 patient ids seem to be 8 patients: 'TCGA-00X' = 'TCGA-00 X'"
    checked_here = milbench_here("data", "check", "toy")
    assert checked_here.returncode == 1
    assert f"error: {words}" in checked_here.stdout
    for command in (RUN, ("plan", "--models", "tiny", "--plugin", PLUGIN)):
        refused = milbench_here(*command, "--cohort", "toy")
        assert refused.returncode == 2
        assert words in refused.stderr
        assert "Traceback" not in refused.stderr
    written = milbench_here("data", "splits", "toy", "--to", "clam", "--out", "theirs")
    assert written.returncode == 2
    assert words in written.stderr


def test_parted_patients_run_where_they_are_meant(cohort_folder: Path) -> None:
    leaking(cohort_folder)
    (cohort_folder / "cohort.yaml").write_text(
        "name: toy\nlabels: labels.csv\nfeatures: features\npatients: as_given\n"
    )
    found = [finding for finding in prepared(cohort_folder).entries[0].findings if "patient ids" in finding.what]
    assert [finding.severity for finding in found] == ["warning"]


def test_copies_on_two_sides_are_refused_before_anything_trains(cohort_folder: Path) -> None:
    slides = sorted((cohort_folder / "features").iterdir())
    for path in slides[1:20]:
        shutil.copy(slides[0], path)
    with pytest.raises(
        DataError, match="1 group of slides holds the same file, of different patients and on two sides"
    ):
        prepared(cohort_folder)


def features(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 3, WIDTH), r"shape \(4, 3, 6\), expected \(patches, width\).* The same holds for 2 slides"),
        ((0, WIDTH), "3 slides .*: no patches"),
        ((4, WIDTH + 1), r"mixed width: 6 \(45\), 7 \(3\); the rarer: 3 slides"),
    ],
)
def test_slides_that_cannot_be_trained_on_are_refused_at_once(
    cohort_folder: Path, shape: tuple[int, ...], message: str
) -> None:
    for number, path in enumerate(sorted((cohort_folder / "features").iterdir())[4:7]):
        write_h5(path, features(*shape) + number)  # so that none is a copy
    with pytest.raises(DataError, match=f"cohort 'toy': .*{message}"):
        prepared(cohort_folder)


def test_files_that_are_broken_alike_are_no_copies(cohort_folder: Path) -> None:
    for path in sorted((cohort_folder / "features").iterdir())[:20]:
        path.write_bytes(b"")
    (found,) = [problem for problem in checked(cohort_folder) if problem.severity == "error"]
    assert "is no readable HDF5 file" in found.what
    assert "The same holds for 19 slides" in found.fix


def test_a_run_refuses_a_broken_slide_with_nothing_trained(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    path = sorted((cohort_folder / "features").iterdir())[4]
    path.write_bytes(b"no HDF5")
    result = milbench_here(*RUN, "--cohort", "toy")
    assert result.returncode == 2, result.stdout
    assert f"{path.name} is no readable HDF5 file" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_says_odd_coordinates_once_and_trains_on(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    path = sorted((cohort_folder / "features").iterdir())[4]
    write_h5(path, features(4, WIDTH), np.zeros((3, 2), dtype=np.int64))
    result = milbench_here(*RUN, "--cohort", "toy")
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert said.count("4 patches but 3 coordinates") == 1
    assert f"warning: 1 slide ({path.stem}): 4 patches but 3 coordinates. Only models that need coordinates" in said
    assert list((tmp_path / "out" / "trials").rglob("*.parquet"))


@pytest.mark.parametrize("content", [b"no HDF5", b""])
def test_a_file_that_its_header_betrays_is_refused_before_anything_trains(cohort_folder: Path, content: bytes) -> None:
    path = sorted((cohort_folder / "features").iterdir())[7]
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"cohort 'toy': .*{path.name}"):
        prepared(cohort_folder)


def test_the_run_its_folder_and_its_report_keep_the_list(
    cohort_folder: Path, milbench_here: Milbench, tmp_path: Path
) -> None:
    spoiled(cohort_folder)
    done = milbench_here(*RUN, "--cohort", "toy", "--tasks", "A", "C", "MSI/MMR")
    assert done.returncode == 0, done.stderr
    expected = [str(finding) for finding in of_tasks(checked(cohort_folder), ["A", "C", "MSI/MMR"])]
    assert len(expected) > 6
    shown = [line.strip() for line in done.stdout.splitlines()]
    assert [text for text in expected if text.startswith("warning") and text not in shown] == []
    kept = json.loads((tmp_path / "out" / "datasets.json").read_text())["toy"]["notes"]
    assert [text for text in expected if text not in kept] == []
    assert milbench_here("report", "out", "--draws", "200", "--no-tracking").returncode == 0
    page = (tmp_path / "reports" / "out" / "index.html").read_text()
    for text in expected:
        assert text.replace("'", "&#x27;").replace('"', "&quot;") in page


def test_a_task_with_a_slash_is_trained_reported_and_drawn_under_its_name(
    cohort_folder: Path, milbench_here: Milbench, tmp_path: Path
) -> None:
    table = pd.read_csv(cohort_folder / "labels.csv").rename(columns={"A": "MSI/MMR", "B": "HER2 [IHC]"})
    table.to_csv(cohort_folder / "labels.csv", index=False)
    words = (*RUN[:3], "--models", "amil", *RUN[5:], "--cohort", "toy")
    done = milbench_here(*words)
    assert done.returncode == 0, done.stderr
    folders = {path.name for path in (tmp_path / "out" / "trials" / "toy" / "amil").iterdir()}
    assert folders == {"MSI_MMR-0fd85a25", "HER2 [IHC]"}
    predictions = [pd.read_parquet(path) for path in (tmp_path / "out" / "trials").rglob("predictions.parquet")]
    assert {task for frame in predictions for task in frame["task"]} == {"MSI/MMR", "HER2 [IHC]"}
    assert "2 trials done before" in milbench_here(*words).stdout
    assert milbench_here("report", "out", "--draws", "200", "--no-tracking").returncode == 0
    assert "MSI/MMR" in (tmp_path / "reports" / "out" / "table1.md").read_text()
    slide = pd.read_csv(cohort_folder / "labels.csv")["slide_id"][0]
    drawn = milbench_here("heatmap", "out", "--slide", slide, "--task", "MSI/MMR", "--out", "maps")
    assert drawn.returncode == 0, drawn.stderr
    assert {path.suffix for path in (tmp_path / "maps").glob("*MSI_MMR-0fd85a25*")} >= {".png", ".geojson"}


def test_inspect_tells_what_check_tells_of_the_labels(cohort_folder: Path, milbench_here: Milbench) -> None:
    spoiled(cohort_folder)
    told = milbench_here("data", "inspect", "toy").stdout
    assert "warning: A: blank = 0 (" in told
    assert "note: no folder can be called 'MSI/MMR'" in told
    assert "warning: A: 1 patient has contradictory labels" in told


def test_findings_are_told_once_and_worst_first() -> None:
    findings = [Finding("note", "c"), Finding("error", "a."), Finding("warning", "b", "Do."), Finding("note", "c")]
    assert list(map(str, worst_first(findings))) == ["error: a.", "warning: b. Do.", "note: c."]
