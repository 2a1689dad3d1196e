"""A run folder gives a cohort another fingerprint if its files hold something else, and the former one if they do again."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.cohorts.record import ContentRecord, as_recorded, read_record, remembered_beside, see
from milbench.errors import StoreError


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Two slides whose files are longer than both ends that the fingerprint reads."""
    folder = tmp_path / "toy"
    (folder / "features").mkdir(parents=True)
    (folder / "labels.csv").write_text("case_id,slide_id,A\np,s1,0\nq,s2,1\n")
    for number in (1, 2):
        np.save(folder / "features" / f"s{number}.npy", np.full((10_000, 8), float(number), np.float32))
    return folder_cohort(folder)


def write_middle(cohort: Cohort, value: float) -> None:
    stored = np.load(cohort.files["s1"])
    stored[5000] = value
    np.save(cohort.files["s1"], stored)


def test_content_that_changes_and_comes_back(cohort: Cohort) -> None:
    first = see(cohort, ContentRecord(), {})
    assert first.cohort.fingerprint == cohort.fingerprint
    write_middle(cohort, 9)
    assert folder_cohort(cohort.files["s1"].parent.parent).fingerprint == cohort.fingerprint
    second = see(cohort, first.record, first.record.slides)
    assert second.cohort.fingerprint != cohort.fingerprint
    assert see(cohort, second.record, second.record.slides).cohort.fingerprint == second.cohort.fingerprint
    write_middle(cohort, 1)
    assert see(cohort, second.record, second.record.slides).cohort.fingerprint == cohort.fingerprint


def test_a_record_survives_its_file(cohort: Cohort, tmp_path: Path) -> None:
    for path in cohort.files.values():
        os.utime(path, ns=(10**18, 10**18))
    record = see(cohort, ContentRecord(), {}).record
    (tmp_path / "toy.json").write_bytes(record.to_json())
    assert read_record(tmp_path / "toy.json") == record
    assert remembered_beside([tmp_path / "toy.json", tmp_path / "none.json"]) == record.slides


def test_a_worker_sees_the_cohort_as_the_record_says_and_another_content_as_another_cohort(
    cohort: Cohort, tmp_path: Path
) -> None:
    path = tmp_path / "toy.json"
    assert as_recorded(cohort, path) is cohort
    first = see(cohort, ContentRecord(), {})
    write_middle(cohort, 9)
    second = see(cohort, first.record, {})
    path.write_bytes(second.record.to_json())
    assert as_recorded(cohort, path).fingerprint == second.cohort.fingerprint
    write_middle(cohort, 8)
    assert as_recorded(cohort, path).fingerprint not in (cohort.fingerprint, second.cohort.fingerprint)


def test_a_cohort_without_files_needs_no_record(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "toy.json").write_bytes(see(cohort, ContentRecord(), {}).record.to_json())
    assert as_recorded(replace(cohort, files={}), tmp_path / "toy.json").fingerprint == cohort.fingerprint


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"first": {"a": 1}, "slides": {}}', "[" * 100_000,
                                  '{"first": {}, "slides": {"s": {"files": [[1]], "sha256": ""}}}'])  # fmt: skip
def test_a_damaged_record_is_one_message_and_is_passed_over_by_other_runs(tmp_path: Path, text: str) -> None:
    path = tmp_path / "toy.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"toy\.json is damaged"):
        read_record(path)
    assert remembered_beside([path]) == {}


def test_the_record_is_plain_json(cohort: Cohort) -> None:
    told = json.loads(see(cohort, ContentRecord(), {}).record.to_json())
    assert list(told) == ["first", "slides"]
    assert list(told["first"]) == [cohort.fingerprint]
    assert list(told["slides"]) == ["s1", "s2"]
