"""Patients as bags: the slides of a patient are joined in the order of their ids, and nothing else changes."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from patients_for_tests import KINDS, WIDTH, cohort_of_patients, write_slide, write_yaml

from milbench.bag import Bag
from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.cohorts.cohort_file import cohort_file
from milbench.cohorts.patient_bags import by_patient, joined, joined_header, slides_by_patient, why_not_joined
from milbench.cohorts.record import ContentRecord, see
from milbench.errors import FeatureFileError, UsageError
from milbench.formats import SlideHeader
from milbench.serving.residency import feature_bytes, largest_bag, mean_patches
from milbench.splits import make_split


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cohort_of_patients(tmp_path / "own", "own")


def by_slide(folder: Path) -> Cohort:
    write_yaml(folder, "own", "")
    return folder_cohort(folder)


def test_a_patient_s_bag_is_its_slides_in_the_order_of_their_ids(folder: Path) -> None:
    cohort, slides = folder_cohort(folder), by_slide(folder)
    bag = cohort.load("p02")
    assert torch.equal(bag.features, torch.cat([slides.load(f"s02.{i}").features for i in range(3)]))
    assert (bag.slide_id, bag.patient_id) == ("p02", "p02")
    for number, (slide, rows) in enumerate(bag.parts):
        alone = slides.load(f"s02.{number}")
        assert slide.slide_id == alone.slide_id
        assert torch.equal(bag.features[rows], alone.features)
        assert torch.equal(slide.features, alone.features)
        assert slide.coords is not None
        assert alone.coords is not None
        assert torch.equal(slide.coords, alone.coords)


def test_the_order_of_the_table_does_not_change_a_bag(folder: Path) -> None:
    before = folder_cohort(folder).load("p05").features
    table = pd.read_csv(folder / "labels.csv")
    table.sample(frac=1, random_state=3).to_csv(folder / "labels.csv", index=False)
    assert torch.equal(folder_cohort(folder).load("p05").features, before)


def test_the_bag_of_one_slide_is_the_slide_bit_for_bit(folder: Path) -> None:
    bag, slide = folder_cohort(folder).load("p03"), by_slide(folder).load("s03.0")
    assert torch.equal(bag.features, slide.features)
    assert bag.features.dtype == slide.features.dtype
    assert bag.coords is not None
    assert slide.coords is not None
    assert torch.equal(bag.coords, slide.coords)
    assert bag.patch_size == slide.patch_size
    assert [part.slide_id for part, _ in bag.parts] == ["s03.0"]


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.randoms())
def test_parts_of_a_bag_are_its_slides_whatever_their_sizes(sizes: list[int], rng: random.Random) -> None:
    slides = [Bag(torch.full((n, 2), float(rng.randint(0, 99))), f"s{i}") for i, n in enumerate(sizes)]
    bag = joined("p", slides)
    assert len(bag) == sum(sizes)
    for slide, (part, rows) in zip(slides, bag.parts, strict=True):
        assert torch.equal(bag.features[rows], slide.features)
        assert part.slide_id == slide.slide_id


def test_a_row_is_a_patient_and_the_files_stay_those_of_slides(folder: Path) -> None:
    cohort, slides = folder_cohort(folder), by_slide(folder)
    assert cohort.bag == "patient"
    assert (
        list(cohort.slides["slide_id"]) == list(cohort.slides["patient_id"]) == [f"p{i:02d}" for i in range(17, -1, -1)]
    )
    assert cohort.members["p02"] == ("s02.0", "s02.1", "s02.2")
    assert cohort.files.keys() == slides.files.keys()
    assert repr(cohort) == "Cohort(own: 36 slides of 18 patients, bag: patient, 2 tasks, 6 features per patch)"
    assert any("36 slides are joined into 18 bags, one per patient, at most 3 slides" in note for note in cohort.notes)


def test_sizes_are_sums(folder: Path) -> None:
    cohort = folder_cohort(folder)
    sizes = [len(cohort.load(patient)) for patient in cohort.slides["slide_id"]]
    assert cohort.header is not None
    assert [cohort.header(patient).n_patches for patient in cohort.slides["slide_id"]] == sizes
    assert largest_bag(cohort) == max(sizes)
    assert mean_patches(cohort) == pytest.approx(np.mean(sizes))
    assert feature_bytes(cohort) == sum(sizes) * WIDTH * 4


def test_both_kinds_of_bags_are_split_alike(folder: Path) -> None:
    patients, slides = folder_cohort(folder), by_slide(folder)
    drawn = [make_split(each.patients_from, each.tasks, "kfold", n_folds=2) for each in (patients, slides)]
    assert drawn[0].sha256 == drawn[1].sha256


def test_bags_of_slides_keep_their_identity_and_those_of_patients_have_another(folder: Path) -> None:
    patients, slides = folder_cohort(folder), by_slide(folder)
    write_yaml(folder, "own", "slide")
    assert folder_cohort(folder).fingerprint == slides.fingerprint
    assert folder_cohort(folder).of_slides is None
    assert patients.fingerprint != slides.fingerprint


def test_every_slide_of_a_patient_is_part_of_the_identity(folder: Path) -> None:
    cohort = folder_cohort(folder)
    before = see(cohort, ContentRecord(), {})
    assert before.record.slides.keys() == set(cohort.files)
    write_slide(folder / "features" / "s02.1.h5", np.full((5, WIDTH), 2.0), corner=512)
    again = folder_cohort(folder)
    assert again.fingerprint != cohort.fingerprint
    assert (
        see(replace(again, fingerprint=cohort.fingerprint), before.record, {}).cohort.fingerprint != cohort.fingerprint
    )


def test_slides_that_are_missing_are_said_and_the_others_are_joined(folder: Path) -> None:
    (folder / "features" / "s02.1.h5").unlink()
    (folder / "features" / "s03.0.h5").unlink()
    cohort = folder_cohort(folder, allow_missing=True)
    assert cohort.members["p02"] == ("s02.0", "s02.2")
    assert "p03" not in set(cohort.slides["slide_id"])
    assert any(
        "bags of 1 patients lack slides that have no features (p02 without s02.1)" in note for note in cohort.notes
    )


def test_a_binary_label_is_1_if_one_slide_s_is_and_others_are_the_first_known(folder: Path) -> None:
    table = pd.read_csv(folder / "labels.csv", dtype={"A": "Int64"})
    rows = table.index[table["case_id"] == "p02"]
    table.loc[rows, "A"] = [0, pd.NA, 1]
    table.loc[rows, "subtype"] = ["", "b", "c"]
    table.to_csv(folder / "labels.csv", index=False)
    write_yaml(folder, "own", "patient", KINDS)
    row = folder_cohort(folder).slides.set_index("slide_id").loc["p02"]
    assert (row["A"], row["subtype"]) == (1, 1)


def test_slides_of_other_encoders_widths_or_patch_sizes_are_not_joined() -> None:
    plain = SlideHeader(10, 8, "float16", "level-0 px", 256.0)
    assert why_not_joined({"a": plain, "b": plain._replace(encoder="UNI")}) == ""
    two = {"a": plain._replace(encoder="uni"), "b": plain._replace(encoder="conch")}
    assert why_not_joined(two) == "slides have different encoders: uni (a), conch (b)"
    assert why_not_joined({"a": plain, "b": plain._replace(width=9)}) == "slides have different widths: 8 (a), 9 (b)"
    two = {"a": plain._replace(weights_sha256="ab"), "b": plain._replace(weights_sha256="cd")}
    assert why_not_joined(two) == "slides have different weights of the encoder: ab (a), cd (b)"
    of_other_size = plain._replace(patch_size=512.0)
    assert "patch sizes: 256 level-0 px (a), 512 level-0 px (b)" in why_not_joined({"a": plain, "b": of_other_size})


def test_patches_of_one_magnification_may_differ_in_level0_pixels() -> None:
    plain = SlideHeader(10, 8, "float16", "level-0 px", 256.0, magnification=20.0)
    assert why_not_joined({"a": plain, "b": plain._replace(patch_size=512.0)}) == ""
    assert why_not_joined({"a": plain, "b": plain._replace(patch_size=512.0, magnification=None)}) != ""
    of_mpp = plain._replace(magnification=None, mpp=0.5)
    assert why_not_joined({"a": of_mpp, "b": of_mpp._replace(patch_size=512.0, mpp=0.504)}) == ""
    assert "patch sizes" in why_not_joined({"a": of_mpp, "b": of_mpp._replace(patch_size=512.0, mpp=0.25)})


def test_a_joined_header_holds_all_patches_in_a_dtype_for_all_values() -> None:
    headers = [SlideHeader(3, 8, "float16"), SlideHeader(4, 8, "float32")]
    assert joined_header(headers)[:3] == (7, 8, "float32")
    bag = joined(
        "p", [Bag(torch.zeros(n, 8, dtype=dtype), f"s{n}") for n, dtype in ((3, torch.half), (4, torch.float))]
    )
    assert bag.features.dtype == torch.float32


def test_a_patient_with_slides_of_two_patch_sizes_is_refused_when_loaded(folder: Path) -> None:
    write_slide(folder / "features" / "s02.1.h5", np.ones((5, WIDTH)), patch_size=512)
    with pytest.raises(FeatureFileError, match=r"patient 'p02': slides have different patch sizes: .*`bag: slide`"):
        folder_cohort(folder).load("p02")


def test_slides_in_memory_of_two_widths_are_refused() -> None:
    with pytest.raises(FeatureFileError, match=r"patient 'p': slides have different widths: 2 \(a\), 3 \(b\)"):
        joined("p", [Bag(torch.ones(1, 2), "a"), Bag(torch.ones(1, 3), "b")])


def test_truth_of_patches_is_joined_if_all_slides_have_it() -> None:
    truths = [torch.tensor([[1]]), torch.tensor([[0]])]
    slides = [Bag(torch.ones(1, 2), f"s{i}", instance_labels=truth) for i, truth in enumerate(truths)]
    found = joined("p", slides).instance_labels
    assert found is not None
    assert found.tolist() == [[1], [0]]
    assert joined("p", [slides[0], replace(slides[1], instance_labels=None)]).instance_labels is None


def test_another_word_for_bags_is_refused_with_the_nearest(folder: Path) -> None:
    write_yaml(folder, "own", "patients")
    with pytest.raises(UsageError, match=r"unknown value of bag 'patients'\. Did you mean 'patient'\?"):
        cohort_file(folder)


def test_a_cohort_that_states_no_fingerprint_states_none_as_patients() -> None:
    slides = pd.DataFrame({"slide_id": ["a", "b"], "patient_id": ["p", "p"], "x": [0.0, 1.0]})
    cohort = by_patient(Cohort("made", slides, ("x",), 2, "", lambda slide: Bag(torch.ones(1, 2), slide)))
    assert cohort.fingerprint == ""
    assert cohort.header is None
    assert len(cohort.load("p")) == 2


def test_patients_stand_in_the_order_of_their_first_slides() -> None:
    table = pd.DataFrame({"slide_id": ["b", "z", "a"], "patient_id": ["q", "p", "q"]})
    assert list(slides_by_patient(table).items()) == [("q", ("a", "b")), ("p", ("z",))]
