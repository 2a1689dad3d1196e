"""A cohort's file: what it may say, and what is said of a mistake in it."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milbench.cohorts.cohort import folder_cohort
from milbench.errors import DataError, LabelTableError, UsageError


def test_a_yaml_file_says_what_the_folder_cannot(cohort_folder: Path) -> None:
    path = cohort_folder / "mine.yaml"
    path.write_text(
        "name: mine\nlabels: labels.csv\nfeatures: features\nfeature_scaling: l2\ntasks: [B]\nsplits: m4\nn_folds: 2\n"
        "model: {hidden: 16}\ntrainer: {epochs: 3}\n"
    )
    cohort = folder_cohort(path)
    assert (cohort.name, cohort.tasks, cohort.feature_scaling, cohort.splits, cohort.n_folds) == (
        "mine",
        ("B",),
        "l2",
        "m4",
        2,
    )
    assert (cohort.model_defaults, cohort.trainer_defaults) == ({"hidden": 16}, {"epochs": 3})


@pytest.mark.parametrize(("line", "size"), [("", None), ("patch_size: 256\n", 256), ("patch_size: 112.5\n", 112.5)])
def test_the_stated_patch_size_is_that_of_every_bag_and_no_part_of_the_identity(
    cohort_folder: Path, line: str, size: float | None
) -> None:
    path = cohort_folder / "mine.yaml"
    path.write_text("name: mine\nlabels: labels.csv\nfeatures: features\n" + line)
    cohort = folder_cohort(path)
    assert cohort.load(cohort.slides["slide_id"][0]).patch_size == size
    assert cohort.fingerprint == folder_cohort(cohort_folder).fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nlabels: l\nfeature: f\n", "Did you mean 'features'"),
        ("name: a\nlabels: labels.csv\n", "key 'features' is missing"),
        ("name: 3\nlabels: labels.csv\nfeatures: features\n", "name is 3; expected text"),
        ("name: a\nlabels: labels.csv\nfeatures: features\ntasks: A\n", "tasks is 'A'; expected a list"),
        ("name: a\nlabels: labels.csv\nfeatures: features\nfeature_scaling: std\n", "unknown feature_scaling"),
        ("name: a/b\nlabels: labels.csv\nfeatures: features\n", "cohort's name is 'a/b', which cannot name a folder"),
        ("name: a\nlabels: labels.csv\nfeatures: features\nn_folds: 0\n", "n_folds is 0; expected 1 or more"),
        (
            "name: a\nlabels: labels.csv\nfeatures: features\npatch_size: 0\n",
            "patch_size is 0; expected the edge of a patch",
        ),
        (
            "name: a\nlabels: labels.csv\nfeatures: features\npatch_size: big\n",
            "patch_size is 'big'; expected a number",
        ),
        ("name: no\nlabels: labels.csv\nfeatures: features\n", "name is False; expected text. Put it in quotes"),
        ("name: ' '\nlabels: labels.csv\nfeatures: features\n", "cohort's name is ' ', which cannot name a folder"),
        (
            "name: a\nlabels: labels.csv\nfeatures: features\ntasks: [A]\ntasks: []\n",
            "'tasks' stands twice, in lines 4 and 5",
        ),
        ("- a\n", "must hold `key: value` lines"),
        ("a: [\n", "cannot be read as YAML"),
    ],
)
def test_a_mistake_in_the_yaml_file_is_named(cohort_folder: Path, text: str, message: str) -> None:
    path = cohort_folder / "mine.yaml"
    path.write_text(text)
    with pytest.raises((DataError, UsageError), match=message):
        folder_cohort(path)


def yaml_cohort(cohort_folder: Path, more: str) -> Path:
    path = cohort_folder / "mine.yaml"
    path.write_text(f"name: mine\nlabels: labels.csv\nfeatures: features\n{more}\n")
    return path


def test_the_yaml_file_states_positives_and_unknowns(cohort_folder: Path) -> None:
    table = pd.read_csv(cohort_folder / "labels.csv")
    words = np.where(table["A"] == 1, "stained", "blank").astype(object)
    words[3] = "Not Reported"
    table.assign(A=words).to_csv(cohort_folder / "labels.csv", index=False)
    with pytest.raises(LabelTableError, match=r"'Not Reported' for 1 slides \(first in line 5.*`unknown: "):
        folder_cohort(yaml_cohort(cohort_folder, "positive: {A: stained}"))
    cohort = folder_cohort(yaml_cohort(cohort_folder, "positive: {A: blank}\nunknown: [Not Reported]"))
    expected = (1 - table["A"].astype(float)).where(words != "Not Reported")
    np.testing.assert_array_equal(cohort.slides["A"], expected)
    assert cohort.findings == ()
    assert any("stained = 0 (" in note and "as `positive:` says" in note for note in cohort.notes)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("positive: {A: yes}", "positive holds True. Write cells as they stand in the table, in quotes: 'yes'"),
        ("unknown: [no]", "unknown holds False"),
        ("positive: {a: 1}", "unknown task in `positive:` 'a'. Known: A, B"),
        ("positive: {A: 2}", "unknown value of A in `positive:` '2'"),
        ("patients: asgiven", "unknown value of patients 'asgiven'. Did you mean 'as_given'"),
        ("positive: A", "positive is 'A'; expected a section"),
    ],
)
def test_what_is_stated_wrongly_is_refused(cohort_folder: Path, more: str, message: str) -> None:
    with pytest.raises((LabelTableError, UsageError), match=re.escape(message)):
        folder_cohort(yaml_cohort(cohort_folder, more))


def test_the_yaml_file_declares_how_features_were_made_and_no_trial_changes(cohort_folder: Path) -> None:
    plain = folder_cohort(yaml_cohort(cohort_folder, ""))
    cohort = folder_cohort(yaml_cohort(cohort_folder, "encoder: uni_v1\nmpp: 0.5"))
    slide = str(cohort.slides["slide_id"].iloc[0])
    assert (cohort.header(slide).encoder, cohort.header(slide).mpp) == ("uni_v1", 0.5)
    assert cohort.header(slide)[:5] == plain.header(slide)[:5]
    assert cohort.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("more", "message"),
    [("mpp: 0", "mpp is 0; expected micrometres"), ("mpp: .inf", "mpp is inf"), ("encoder: 5", "encoder is 5; expected text. Put it in quotes")],
)  # fmt: skip
def test_a_declaration_of_the_wrong_type_is_refused(cohort_folder: Path, more: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        folder_cohort(yaml_cohort(cohort_folder, more))
