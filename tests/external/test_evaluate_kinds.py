"""A finished run of tasks of every kind scores another cohort: places of classes, units, and what is lacking."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from external_for_tests import cohort_of_kinds, copy_of_run_of_kinds, external_of, watch

from milbench.cohorts.cohort import folder_cohort
from milbench.endpoints.endpoint import KINDS
from milbench.errors import DataError
from milbench.external import trained as trained_module
from milbench.external.analysis import compared, drop_frame
from milbench.external.evaluate import scored
from milbench.external.scored import external_folder
from milbench.store.run import open_run


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_run_of_kinds(tmp_path_factory)


def test_tasks_of_every_kind_are_scored_and_compared(kinds: Path, tmp_path: Path) -> None:
    external = external_of(kinds, cohort_of_kinds(tmp_path / "new", "new", first=1000))
    trials = scored(external, "cpu", watch).trials
    found = compared(external, trials, reference="tiny", draws=200, complete_cases=False)
    assert tuple(found) == KINDS
    for kind, least in (("binary", 0.85), ("ordinal", 0.4), ("regression", 0.7), ("survival", 0.65)):
        frame = drop_frame(found[kind])  # type: ignore[index]
        assert (frame["external_score"] > least).all(), kind
        assert frame["external_ensemble_score"].notna().all(), kind


def test_a_class_has_the_place_of_the_training_whatever_the_order_here(kinds: Path, tmp_path: Path) -> None:
    one = external_of(kinds, cohort_of_kinds(tmp_path / "x", "new", first=1000))
    two = external_of(kinds, cohort_of_kinds(tmp_path / "y", "new", first=1000, classes=("c", "a", "b")))
    pd.testing.assert_frame_equal(one.slides, two.slides)


def test_a_run_that_fits_no_scaler_needs_no_training_data(
    kinds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = cohort_of_kinds(tmp_path / "new", "elsewhere", first=1000)
    with_data = scored(external_of(kinds, cohort), "cpu", watch).trials
    before = [trial.answers() for trial in with_data]
    shutil.rmtree(external_folder(open_run(kinds), "elsewhere"))

    def gone(*_: object) -> None:
        raise DataError("it is gone")

    monkeypatch.setattr(trained_module, "find_cohort", gone)
    external = external_of(kinds, cohort)
    assert external.remarks == ()  # encoder and scale are held against the run's own record
    for former, trial in zip(before, scored(external, "cpu", watch).trials, strict=True):
        pd.testing.assert_frame_equal(trial.answers(), former)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"width": 7}, "features of cohort 'new' are 7 wide, those of the run's cohort 'own' 6"),
        ({"unit": "months"}, "task 'OS': the median time is .* One of the two is in another unit"),
    ],
)
def test_what_does_not_fit_the_training_is_refused(kinds: Path, tmp_path: Path, more: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        external_of(kinds, cohort_of_kinds(tmp_path / "new", "new", first=1000, **more))


def test_a_class_that_no_training_knows_is_refused(kinds: Path, tmp_path: Path) -> None:
    cohort = cohort_of_kinds(tmp_path / "new", "new", first=1000, classes=("a", "b", "c", "d"))
    labels = pd.read_csv(cohort / "labels.csv")
    labels.loc[0, "subtype"] = "d"
    labels.to_csv(cohort / "labels.csv", index=False)
    with pytest.raises(DataError, match="1 slides have the class d, which no training has seen"):
        external_of(kinds, cohort)


def test_a_class_without_patients_leaves_the_mean_over_classes_undefined_and_is_said(
    kinds: Path, tmp_path: Path
) -> None:
    cohort = cohort_of_kinds(tmp_path / "new", "new", first=1000)
    labels = pd.read_csv(cohort / "labels.csv")
    labels[labels["subtype"] != "c"].to_csv(cohort / "labels.csv", index=False)
    external = external_of(kinds, folder_cohort(cohort, allow_missing=True))
    assert any(remark.startswith("skipped: 20 feature files have no label") for remark in external.remarks)
    assert "subtype: no slide has the class c, so a mean over classes is undefined" in external.remarks
    found = compared(external, scored(external, "cpu", watch).trials, reference="tiny", draws=100, complete_cases=False)
    assert drop_frame(found["multiclass"])["external_score"].isna().all()


def test_tasks_without_a_column_are_left_out_and_said(kinds: Path, tmp_path: Path) -> None:
    cohort = cohort_of_kinds(tmp_path / "new", "new", first=1000)
    text = (cohort / "cohort.yaml").read_text()
    (cohort / "cohort.yaml").write_text("".join(line for line in text.splitlines(True) if "HRD" not in line))
    external = external_of(kinds, cohort)
    assert "not evaluated, because the cohort has no labels of them: HRD" in external.remarks
    found = compared(external, scored(external, "cpu", watch).trials, reference="tiny", draws=100, complete_cases=False)
    assert "regression" not in found
    assert {trial.info["model"] for trial in scored(external, "cpu", watch).trials} == {"tiny", "tiny_multi"}


def test_another_kind_is_refused(kinds: Path, tmp_path: Path) -> None:
    cohort = cohort_of_kinds(tmp_path / "new", "new", first=1000)
    text = (
        (cohort / "cohort.yaml")
        .read_text()
        .replace("HRD: {kind: regression}", "grade2: binary\n  HRD: {kind: regression}")
    )
    text = text.replace("  grade2: binary\n", "").replace("grade: {kind: ordinal,", "grade: {kind: multiclass,")
    (cohort / "cohort.yaml").write_text(text)
    with pytest.raises(DataError, match="task 'grade' is ordinal in the run and multiclass in cohort 'new'"):
        external_of(kinds, cohort)
