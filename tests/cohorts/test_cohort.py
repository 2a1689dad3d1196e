"""User cohorts: a folder or a YAML file, complete or honestly incomplete."""

import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from folders_for_tests import WIDTH, make_folder_cohort, write_h5
from places import SHARED

from milbench.cohorts.cohort import folder_cohort
from milbench.errors import DataError, FeatureFileError, LabelTableError
from milbench.splits import make_split


def first_slide(folder: Path) -> Path:
    return sorted((folder / "features").iterdir())[0]


def test_a_folder_is_a_cohort(cohort_folder: Path) -> None:
    cohort = folder_cohort(cohort_folder)
    assert (cohort.name, cohort.tasks, cohort.in_features, len(cohort.slides)) == ("toy", ("A", "B"), WIDTH, 48)
    bag = cohort.load(cohort.slides["slide_id"][0])
    assert bag.features.shape[1] == WIDTH
    assert bag.patient_id == cohort.slides["patient_id"][0]
    assert bag.coords is not None
    assert len(bag.coords) == len(bag)


def test_a_cohort_shows_itself_in_one_line(cohort_folder: Path) -> None:
    cohort = folder_cohort(cohort_folder)
    assert repr(cohort) == f"Cohort(toy: 48 slides of 40 patients, 2 tasks, {WIDTH} features per patch)"


def test_a_declared_licence_is_kept_and_changes_no_identity(cohort_folder: Path) -> None:
    plain = folder_cohort(cohort_folder)
    text = f"name: {plain.name}\nlabels: labels.csv\nfeatures: features\nlicence: CC-BY-4.0\n"
    (cohort_folder / "cohort.yaml").write_text(text)
    licensed = folder_cohort(cohort_folder)
    assert (plain.licence, licensed.licence) == ("", "CC-BY-4.0")
    assert licensed.fingerprint == plain.fingerprint


def test_a_labelled_slide_without_features_is_refused_or_counted(cohort_folder: Path) -> None:
    first_slide(cohort_folder).unlink()
    with pytest.raises(LabelTableError, match=r"1 labelled slides have no features \(TCGA-00.*--allow-missing"):
        folder_cohort(cohort_folder)
    cohort = folder_cohort(cohort_folder, allow_missing=True)
    assert len(cohort.slides) == 47
    assert any("skipped: 1 labelled slides have no features" in note for note in cohort.notes)


def test_features_without_a_label_are_refused_or_counted(cohort_folder: Path) -> None:
    shutil.copy(first_slide(cohort_folder), cohort_folder / "features" / "stray.h5")
    with pytest.raises(LabelTableError, match=r"1 feature files have no label \(stray\)"):
        folder_cohort(cohort_folder)
    cohort = folder_cohort(cohort_folder, allow_missing=True)
    assert len(cohort.slides) == 48
    assert any("skipped: 1 feature files have no label" in note for note in cohort.notes)


def test_slides_in_folders_below_the_others_are_named_and_never_called_missing_alone(cohort_folder: Path) -> None:
    (cohort_folder / "features" / "batch2").mkdir()
    for path in sorted((cohort_folder / "features").glob("*.h5"))[:8]:
        path.rename(path.parent / "batch2" / path.name)
    with pytest.raises(
        LabelTableError, match=r"8 labelled slides have no features .*in folders below.*\(8 in batch2\)"
    ):
        folder_cohort(cohort_folder)
    notes = folder_cohort(cohort_folder, allow_missing=True).notes
    assert any(note.startswith("skipped: 8 labelled") and "8 in batch2" in note for note in notes)


def test_file_names_in_decomposed_letters_are_the_labels_slides(cohort_folder: Path) -> None:
    path = first_slide(cohort_folder)
    path.rename(path.with_name(unicodedata.normalize("NFD", "Müller.h5")))
    table = pd.read_csv(cohort_folder / "labels.csv")
    table.replace(path.name.removesuffix(".h5"), "Müller").to_csv(cohort_folder / "labels.csv", index=False)
    cohort = folder_cohort(cohort_folder)
    assert len(cohort.load("Müller")) > 0
    assert any("spelled with other code points" in note for note in cohort.notes)


def test_ids_that_match_nothing_show_an_example_of_each(cohort_folder: Path) -> None:
    table = pd.read_csv(cohort_folder / "labels.csv")
    table.assign(slide_id=table["slide_id"] + ".svs").to_csv(cohort_folder / "labels.csv", index=False)
    with pytest.raises(LabelTableError, match=r"no slide id .* matches.*says 'TCGA-00.*\.svs', a file 'TCGA-00"):
        folder_cohort(cohort_folder, allow_missing=True)


def test_another_width_in_one_slide_names_the_slide(cohort_folder: Path) -> None:
    path = sorted((cohort_folder / "features").iterdir())[3]
    write_h5(path, np.zeros((4, WIDTH + 1), dtype=np.float32))
    with pytest.raises(FeatureFileError, match=f"{path.name}: features are {WIDTH + 1} wide"):
        folder_cohort(cohort_folder).load(path.name.removesuffix(".h5"))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.full((3, WIDTH), np.nan, dtype=np.float32), "3 of 3 patches hold NaN or infinite"),
        (np.array([[np.inf] + [0] * (WIDTH - 1), [0] * WIDTH], dtype=np.float16), "1 of 2 patches"),
        (np.zeros((0, WIDTH), dtype=np.float32), r"the bag is empty \(0 patches\)"),
        (np.zeros((2, 3, WIDTH), dtype=np.float32), r"shape \(2, 3, 6\), expected \(patches, width\)"),
        (np.zeros(0, dtype=np.float32), r"the bag is empty \(0 patches\)"),
    ],
)
def test_unusable_features_name_the_file_and_the_mend(cohort_folder: Path, features: np.ndarray, message: str) -> None:
    path = sorted((cohort_folder / "features").iterdir())[3]
    path.unlink()
    write_h5(path, features)
    with pytest.raises(FeatureFileError, match=f"{path.name}.*{message}"):
        folder_cohort(cohort_folder).load(path.name.removesuffix(".h5"))


def test_a_task_that_cannot_name_a_folder_keeps_its_name_and_the_folder_is_told(cohort_folder: Path) -> None:
    before = folder_cohort(cohort_folder)
    table = pd.read_csv(cohort_folder / "labels.csv").rename(columns={"B": "HER2/neu"})
    table.to_csv(cohort_folder / "labels.csv", index=False)
    cohort = folder_cohort(cohort_folder)
    assert cohort.tasks == ("A", "HER2/neu")
    assert [finding.severity for finding in cohort.findings] == ["note"]
    assert "no folder can be called 'HER2/neu'" in cohort.findings[0].what
    assert before.findings == ()


def test_a_broken_first_slide_is_named_since_it_defines_the_width(cohort_folder: Path) -> None:
    first = pd.read_csv(cohort_folder / "labels.csv")["slide_id"][0]
    (cohort_folder / "features" / f"{first}.h5").write_bytes(b"not HDF5")
    with pytest.raises(FeatureFileError, match=re.escape(f"{first}.h5 is no readable HDF5 file")):
        folder_cohort(cohort_folder)


@pytest.mark.realdata
@pytest.mark.skipif(not (SHARED / "data" / "musk1").exists(), reason="the data are not beside the checkout")
@pytest.mark.parametrize(
    ("name", "n_slides", "n_positive", "n_patches", "width"),
    [("musk1", 92, 47, 476, 166), ("ucsb_breast", 58, 26, 2002, 708)],
)
def test_real_cohorts_load_with_their_known_sizes(
    name: str, n_slides: int, n_positive: int, n_patches: int, width: int
) -> None:
    cohort = folder_cohort(SHARED / "data" / name)
    bags = [cohort.load(slide) for slide in cohort.slides["slide_id"]]
    assert (len(bags), int(cohort.slides["label"].sum())) == (n_slides, n_positive)
    assert (sum(len(bag) for bag in bags), cohort.in_features) == (n_patches, width)
    assert all(bag.coords.shape == (len(bag), 2) for bag in bags)


def test_pt_files_make_the_same_bags(tmp_path: Path) -> None:
    folder = make_folder_cohort(tmp_path / "toy", n_patients=3)
    reference = folder_cohort(folder)
    bags = {slide: reference.load(slide).features for slide in reference.slides["slide_id"]}
    for slide, features in bags.items():
        torch.save(features, folder / "features" / f"{slide}.pt")
        (folder / "features" / f"{slide}.h5").unlink()
    as_pt = folder_cohort(folder)
    assert as_pt.in_features == WIDTH
    assert all(torch.equal(as_pt.load(slide).features, features) for slide, features in bags.items())


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        folder_cohort(tmp_path / "nowhere")


@pytest.mark.parametrize("protocol", ["m4", "kfold"])
def test_skipping_a_slide_leaves_every_other_patient_where_it_was(cohort_folder: Path, protocol: str) -> None:
    whole = folder_cohort(cohort_folder)
    first_slide(cohort_folder).unlink()
    less = folder_cohort(cohort_folder, allow_missing=True)
    assert len(less.slides) == len(whole.slides) - 1
    tables = [make_split(cohort.patients_from, cohort.tasks, protocol).table for cohort in (whole, less)]
    assert tables[0].equals(tables[1])
