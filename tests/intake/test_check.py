"""`milbench data check`: every kind of trouble is found at once, with its fix, and healthy data pass."""

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from commands_for_tests import Milbench
from folders_for_tests import WIDTH, make_folder_cohort, write_h5

from milbench.bag import Bag
from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.cohorts.cohort_file import cohort_file
from milbench.errors import DataError
from milbench.intake.check import Check, check_cohort, check_loaded
from milbench.labels.finding import NOTE, Finding, condensed


def check(folder: Path, *, deep: bool = False, splits: str = "") -> Check:
    return check_cohort(cohort_file(folder), lambda slides, *_: slides, deep=deep, splits=splits)


def slides_of(folder: Path) -> list[Path]:
    return sorted((folder / "features").iterdir())


def relabel(folder: Path, **columns: object) -> None:
    table = pd.read_csv(folder / "labels.csv").assign(**columns)
    table.to_csv(folder / "labels.csv", index=False)


def found(result: Check) -> str:
    return "\n".join(f"{p.severity}: {p.what} | {p.fix}" for p in result.problems)


def test_healthy_data_pass_with_the_fingerprint_of_the_run(tmp_path: Path) -> None:
    folder = make_folder_cohort(tmp_path / "toy", n_patients=150)
    result = check(folder, deep=True)
    assert result.problems == ()
    assert result.passed
    assert dict(result.facts)["fingerprint"] == folder_cohort(folder).fingerprint
    assert set(result.folds["role"]) == {"train", "val", "test"}


@pytest.mark.parametrize(("n_slides", "told"), [(1, "at most 1 slide each"), (2, "at most 2 slides each")])
def test_how_many_slides_a_patient_has_is_told_in_numbers_and_words(
    cohort_folder: Path, n_slides: int, told: str
) -> None:
    patients = [f"p{number // n_slides}" for number in range(len(slides_of(cohort_folder)))]
    relabel(cohort_folder, case_id=patients)
    assert told in dict(check(cohort_folder).facts)["patients"]


def features(value: float = 1.0, n: int = 4, width: int = WIDTH, dtype: str = "float32") -> np.ndarray:
    rng = np.random.default_rng(int(value))
    return (rng.standard_normal((n, width)) + value).astype(dtype)


def with_counts(values: np.ndarray) -> np.ndarray:
    values[:, :2] = np.arange(2 * len(values)).reshape(-1, 2) * 256
    return values


BREAK = {
    "error: 1 slide (.*): labelled, but no feature file": lambda path: path.unlink(),
    "error: 1 slide (stray): feature file, but no label": lambda path: write_h5(path.with_name("stray.h5"), features()),
    "is no readable HDF5 file": lambda path: path.write_bytes(b"no HDF5"),
    "error: 1 slide (.*): no patches": lambda path: write_h5(path, np.zeros((0, WIDTH), np.float32)),
    "error: mixed width: 6 (47), 7 (1)": lambda path: write_h5(path, features(width=7)),
    "warning: mixed dtype: float32 (47), float16 (1)": lambda path: write_h5(path, features(dtype="float16")),
}
DEEP = {
    "error: 1 slide (.*): NaN or infinite values": lambda path: write_h5(path, features() * np.nan),
    "warning: 1 slide (.*): all values are zero": lambda path: write_h5(path, features() * 0),
    "warning: 1 slide (.*): the first two columns are whole numbers": lambda path: write_h5(
        path, with_counts(features())
    ),
    "warning: 1 slide (.*): all patches are equal": lambda path: write_h5(path, features()[:1].repeat(5, axis=0)),
}


def matches(text: str, pattern: str) -> bool:
    head, _, tail = pattern.partition(".*")
    return any(head in line and tail in line for line in text.splitlines())


@pytest.mark.parametrize("trouble", [*BREAK, *DEEP])
def test_every_kind_of_broken_file_is_found_and_fails_the_check(cohort_folder: Path, trouble: str) -> None:
    {**BREAK, **DEEP}[trouble](slides_of(cohort_folder)[4])
    result = check(cohort_folder, deep=trouble in DEEP)
    assert matches(found(result), trouble), found(result)
    assert not result.passed


def test_headers_tell_shapes_that_are_no_bag_once_for_all_slides_and_never_as_empty(cohort_folder: Path) -> None:
    for path in slides_of(cohort_folder)[4:]:
        write_h5(path, np.zeros((4, 7, WIDTH), np.float32))
    text = found(check(cohort_folder))
    assert text.count("features have shape (4, 7, 6), expected (patches, width)") == 1
    assert "The same holds for 43 slides" in text
    assert "no patches" not in text


def test_headers_tell_coordinates_that_do_not_fit_as_a_warning(cohort_folder: Path) -> None:
    for path, n_coords in zip(slides_of(cohort_folder)[4:6], (3, 5), strict=True):
        write_h5(path, features(n=4), np.zeros((n_coords, 2), np.int64))
    result = check(cohort_folder)
    assert matches(found(result), "warning: 2 slides (.*4 patches but 3 coordinates. Only models that need coordinates")
    assert not [problem for problem in result.problems if problem.severity == "error"]


def test_slides_in_a_folder_below_are_named_with_it(cohort_folder: Path) -> None:
    (cohort_folder / "features" / "batch2").mkdir()
    for path in slides_of(cohort_folder)[40:-1]:
        path.rename(path.parent / "batch2" / path.name)
    text = found(check(cohort_folder))
    assert "labelled, but no feature file | Files of these names lie in folders below" in text
    assert "in batch2): move them up" in text
    assert "Extract them" not in text


def test_values_are_read_only_when_asked(cohort_folder: Path) -> None:
    for wreck in DEEP.values():
        wreck(slides_of(cohort_folder)[4])
        assert check(cohort_folder).passed


def test_everything_wrong_is_listed_at_once_and_worst_first(cohort_folder: Path) -> None:
    for path, wreck in zip(slides_of(cohort_folder)[5:], [*BREAK.values(), *DEEP.values()], strict=False):
        wreck(path)
    relabel(cohort_folder, B=0)
    result = check(cohort_folder, deep=True)
    for trouble in (*BREAK, *DEEP):
        assert matches(found(result), trouble.split(" (47")[0]), trouble
    severities = [problem.severity for problem in result.problems]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert len(set(result.problems)) == len(result.problems)


def test_copies_are_found_by_their_bytes_and_by_their_values(cohort_folder: Path) -> None:
    first, second, third = slides_of(cohort_folder)[:3]
    shutil.copy(first, second)
    assert matches(found(check(cohort_folder)), "holds the same file: .*TCGA-00")
    assert sum("holds the same" in problem.what for problem in check(cohort_folder, deep=True).problems) == 1
    with h5py.File(first) as source:
        values = source["features"][()]
    write_h5(third, values)
    assert matches(found(check(cohort_folder, deep=True)), "holds the same features.*TCGA-00")


def test_mixed_encoders_and_magnifications_are_found(tmp_path: Path) -> None:
    folder = make_folder_cohort(tmp_path / "toy")
    for i, path in enumerate(slides_of(folder)):
        with h5py.File(path, "a") as file:
            file["features"].attrs["encoder"] = "uni_v1" if i else "resnet50"
            file["coords"].attrs["target_magnification"] = 20 if i != 1 else 10
    text = found(check(folder))
    assert "error: 2 encoders in one cohort: uni_v1: 47 slides (TCGA-" in text
    assert "; resnet50: 1 slide (TCGA-00-A00.X.000)" in text
    assert "mixed magnification: 20.0 (47), 10.0 (1)" in text


def test_contradictory_patients_and_one_class_tasks_are_found(cohort_folder: Path) -> None:
    table = pd.read_csv(cohort_folder / "labels.csv")
    table.loc[0, "A"] = 1 - table.loc[0, "A"]
    table.assign(B=1).to_csv(cohort_folder / "labels.csv", index=False)
    text = found(check(cohort_folder))
    assert "warning: A: 1 patient has contradictory labels" in text
    assert "warning: B: only one class" in text


@pytest.mark.parametrize(
    ("ending", "mend"), [(".svs", "write 'TCGA-00-A00.X.000', not 'TCGA-00-A00.X.000.svs'"), ("", "Extract them")]
)
def test_ids_that_nearly_match_say_how(cohort_folder: Path, ending: str, mend: str) -> None:
    table = pd.read_csv(cohort_folder / "labels.csv")
    table["slide_id"] += ending
    table.to_csv(cohort_folder / "labels.csv", index=False)
    if not ending:
        slides_of(cohort_folder)[0].unlink()
    assert mend in found(check(cohort_folder))


def test_tissue_source_sites_are_counted_where_ids_are_barcodes(cohort_folder: Path) -> None:
    assert "tissue source sites" not in dict(check(cohort_folder).facts)
    table = pd.read_csv(cohort_folder / "labels.csv")
    site = np.where(np.arange(len(table)) < 30, "3C", "A2")
    table["case_id"] = [f"TCGA-{code}-{i:04d}" for i, code in enumerate(site)]
    table.to_csv(cohort_folder / "labels.csv", index=False)
    assert dict(check(cohort_folder).facts)["tissue source sites"] == "2, the largest 3C with 30 of 48 patients"


def test_the_exit_code_and_the_lines_say_it(cohort_folder: Path, milbench_here: Milbench) -> None:
    passed = milbench_here("data", "check", "toy")
    assert passed.returncode == 0, passed.stdout
    assert "passed: " in passed.stdout
    slides_of(cohort_folder)[4].write_bytes(b"")
    failed = milbench_here("data", "check", "toy", "--deep")
    assert failed.returncode == 1
    assert "NOT passed: 1 error" in failed.stdout
    (cohort_folder / "labels.csv").write_text("no,labels\n1,2\n")
    unlabelled = milbench_here("data", "check", "toy")
    assert unlabelled.returncode == 1
    assert "error: toy/labels.csv: column 'case_id' is missing" in unlabelled.stdout.replace("\n", " ")


@pytest.mark.parametrize("cohort", ["nowhere", "tcga-brca"])
def test_a_cohort_that_is_not_there_is_named(cohort: str, milbench_here: Milbench) -> None:
    refused = milbench_here("data", "check", cohort)
    assert refused.returncode == 2
    assert cohort in refused.stderr


def test_thousands_of_tasks_take_no_more_time_each_and_get_one_note_for_all(tmp_path: Path) -> None:
    begun = time.process_time()
    check_with_tasks(tmp_path / "few", 500)
    few = time.process_time() - begun
    result = check_with_tasks(tmp_path / "many", 5000)
    assert (
        time.process_time() - begun - few < 30 * few
    )  # each task compared with each other would take 100 times as long
    unlabelled = [problem for problem in result.problems if "have no label" in problem.what]
    assert len(unlabelled) == 1
    assert "The like holds for" in unlabelled[0].what
    assert "more tasks (T" in unlabelled[0].what
    assert len(result.problems) < 100
    assert len(result.facts) < 20


def check_with_tasks(folder: Path, n_tasks: int) -> Check:
    """Check of a cohort of so many tasks, a tenth of whose labels are missing."""
    folder, rng = make_folder_cohort(folder), np.random.default_rng(0)
    table = pd.read_csv(folder / "labels.csv", dtype=str)[["case_id", "slide_id"]]
    cells = rng.choice(["0", "1", ""], size=(len(table), n_tasks), p=[0.45, 0.45, 0.1])
    wide = pd.DataFrame(cells, columns=[f"T{i}" for i in range(n_tasks)])
    pd.concat([table, wide], axis=1).to_csv(folder / "labels.csv", index=False)
    return check_cohort(cohort_file(folder), lambda slides, *_: slides)


def test_a_few_tasks_get_a_finding_each() -> None:
    each = [Finding(NOTE, f"T{i}: {i} slides have no label", task=f"T{i}") for i in range(10)]
    assert condensed(each) == each


@pytest.mark.parametrize("ending", [".H5", ".pt"])
def test_a_slide_under_another_ending_is_told(cohort_folder: Path, ending: str) -> None:
    path = slides_of(cohort_folder)[0]
    path.rename(path.with_suffix(ending))
    assert f"Files of 1 lie there with another ending ({path.stem}{ending}), and only .h5 files are read" in found(
        check(cohort_folder)
    )


def test_patches_at_one_place_are_told_when_values_are_read(cohort_folder: Path) -> None:
    with h5py.File(slides_of(cohort_folder)[0], "a") as file:
        del file["coords"]
        file["coords"] = np.full((len(file["features"]), 2), 7)
    assert "all patches lie at one place" not in found(check(cohort_folder))
    assert "warning: 1 slide" in (told := found(check(cohort_folder, deep=True)))
    assert (
        "all patches lie at one place | Models that need coordinates fail on them, and no map of them can be drawn"
        in told
    )


def test_a_file_that_cannot_be_opened_is_told_once(cohort_folder: Path) -> None:
    path = slides_of(cohort_folder)[0]
    path.unlink()
    path.symlink_to("nowhere")
    assert found(check(cohort_folder)).count(str(path)) == 1


def test_a_long_name_of_an_encoder_is_cut_in_the_finding(cohort_folder: Path) -> None:
    with h5py.File(slides_of(cohort_folder)[0], "a") as file:
        file["features"].attrs["encoder"] = "uni\n" * 10_000
    (line,) = [line for line in found(check(cohort_folder)).splitlines() if "the encoder is not stored" in line]
    assert "uni\\nuni" in line
    assert len(line) < 300


def made_by_python(**changed: Any) -> Cohort:
    """Twenty slides in memory; `load` may be changed."""
    slides = pd.DataFrame(
        {"slide_id": [f"s{i:02d}" for i in range(20)], "patient_id": [f"p{i:02d}" for i in range(20)]}
    )
    slides["t"] = np.arange(20) % 2.0
    bag = {slide: torch.from_numpy(features(number)) for number, slide in enumerate(slides["slide_id"])}
    made = Cohort("made", slides, ("t",), WIDTH, "abc", lambda slide: Bag(bag[slide], slide))
    return replace(made, **changed)


def check_made(cohort: Cohort, *, deep: bool = True, splits: str = "") -> Check:
    return check_loaded(cohort, lambda slides, *_: slides, deep=deep, splits=splits)


def test_a_cohort_that_python_makes_is_checked_with_its_split_and_values() -> None:
    result = check_made(made_by_python())
    assert {problem.severity for problem in result.problems} <= {NOTE}
    assert dict(result.facts)["slides"] == "20 labelled"
    assert dict(result.facts)["fingerprint"] == "abc"
    assert set(result.folds["role"]) == {"train", "val", "test"}


def test_odd_values_of_a_cohort_that_python_makes_are_found_if_values_are_read() -> None:
    good = made_by_python().load
    odd = {
        "s01": Bag(torch.zeros(4, WIDTH), "s01"),
        "s02": good("s03"),
        "s04": Bag(good("s04").features, "s04", coords_problem="two corners are missing"),
    }
    cohort = made_by_python(load=lambda slide: odd.get(slide) or good(slide))
    text = found(check_made(cohort))
    assert "warning: 1 slide (s01): all values are zero" in text
    assert re.search(r"s02.*s03", text)
    assert "1 slide (s04): two corners are missing" in text
    assert "s01" not in found(check_made(cohort, deep=False))


def test_a_bag_that_cannot_be_loaded_is_an_error_and_the_others_are_read() -> None:
    good = made_by_python().load

    def load(slide: str) -> Bag:
        if slide == "s05":
            raise DataError("slide 's05' is gone")
        return Bag(torch.zeros(4, WIDTH), slide) if slide == "s06" else good(slide)

    text = found(check_made(made_by_python(load=load)))
    assert "error: slide 's05' is gone" in text
    assert "(s06): all values are zero" in text


def test_a_split_that_cannot_be_made_is_one_of_the_problems_of_a_cohort_that_python_makes() -> None:
    result = check_made(made_by_python(), splits="nowhere.csv")
    assert not result.passed
    assert "nowhere.csv" in found(result)
    assert len(result.folds) == 0


def test_a_cohort_of_patients_that_python_reads_is_checked_slide_by_slide(tmp_path: Path) -> None:
    folder = make_folder_cohort(tmp_path / "toy", n_patients=150)
    (folder / "cohort.yaml").write_text("name: toy\nlabels: labels.csv\nfeatures: features\nbag: patient\n")
    by_file, loaded = check(folder / "cohort.yaml", deep=True), check_made(folder_cohort(folder / "cohort.yaml"))
    assert loaded.bag == "patient"
    assert loaded.problems == by_file.problems
    assert loaded.folds.equals(by_file.folds)
    for name in ("slides", "patients", "bag", "fingerprint"):
        assert dict(loaded.facts)[name] == dict(by_file.facts)[name]
