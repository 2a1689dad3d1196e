"""A cohort's fingerprint notices other labels and features, and no other place."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from folders_for_tests import WIDTH, write_h5
from zarr_stores import write_table, write_wsidata

from milbench.cohorts.cohort import folder_cohort
from milbench.cohorts.fingerprint import fingerprint
from milbench.errors import FeatureFileError
from milbench.formats import open_features


def test_the_fingerprint_ignores_where_the_cohort_lies(tmp_path: Path, cohort_folder: Path) -> None:
    shutil.copytree(cohort_folder, tmp_path / "elsewhere" / "toy")
    assert folder_cohort(tmp_path / "elsewhere" / "toy").fingerprint == folder_cohort(cohort_folder).fingerprint


@pytest.mark.parametrize("change", ["label", "value", "length"])
def test_the_fingerprint_notices_labels_and_features(cohort_folder: Path, change: str) -> None:
    before = folder_cohort(cohort_folder).fingerprint
    path = sorted((cohort_folder / "features").iterdir())[0]
    if change == "label":
        table = pd.read_csv(cohort_folder / "labels.csv")
        table.loc[0, "B"] = 1 - table.loc[0, "B"]
        table.to_csv(cohort_folder / "labels.csv", index=False)
    elif change == "value":
        with h5py.File(path, "a") as file:
            file["features"][0, 0] += 1
    else:
        write_h5(path, np.zeros((9, WIDTH), dtype=np.float32))
    assert folder_cohort(cohort_folder).fingerprint != before


def test_a_feature_file_that_cannot_be_read_is_named_before_anything_trains(cohort_folder: Path) -> None:
    path = sorted((cohort_folder / "features").iterdir())[3]
    path.unlink()
    path.symlink_to(cohort_folder / "moved away")
    with pytest.raises(FeatureFileError, match=f"{path.name} cannot be read: No such file"):
        folder_cohort(cohort_folder)


def test_the_fingerprint_is_that_of_labels_and_file_ends_and_of_nothing_else(cohort_folder: Path) -> None:
    cohort = folder_cohort(cohort_folder)
    digest = hashlib.sha256(cohort.slides.to_csv(index=False, lineterminator="\n").encode())
    for slide in cohort.slides["slide_id"]:
        content = (cohort_folder / "features" / f"{slide}.h5").read_bytes()
        digest.update(f"{slide}\0{len(content)}\0".encode() + content[:65536] + content[-65536:])
    assert cohort.fingerprint == digest.hexdigest()


def test_arrays_that_are_read_otherwise_than_before_are_another_cohort(tmp_path: Path) -> None:
    """Owkin's arrays were taken for features 3 wider: their trials must not pass for those of today."""
    (tmp_path / "features").mkdir()
    places = np.stack([np.full(6, 9), np.arange(6), np.zeros(6)], axis=1)
    for slide in ("a", "b"):
        features = np.random.default_rng(0).standard_normal((6, 4))
        np.save(tmp_path / "features" / f"{slide}.npy", np.hstack([places, features]).astype(np.float32))
    (tmp_path / "labels.csv").write_text("case_id,slide_id,A\np,a,0\nq,b,1\n")
    cohort = folder_cohort(tmp_path)
    plain = replace(open_features(tmp_path / "features"), read_anew="")
    assert cohort.in_features == 4
    assert cohort.fingerprint != fingerprint(cohort.slides, plain, {})


def test_each_table_of_a_store_has_a_fingerprint_of_its_own_that_others_do_not_change(tmp_path: Path) -> None:
    features, coords = np.ones((4, 3), np.float32), np.arange(8).reshape(4, 2) * 256
    write_wsidata(tmp_path / "a.zarr", features, coords)
    slides = pd.DataFrame({"slide_id": ["a"], "patient_id": ["p"], "A": [1.0]})

    def of(table: str) -> str:
        return fingerprint(slides, open_features(Path(f"{tmp_path}#{table}")), {})

    uni = of("uni_tiles")
    write_table(tmp_path / "a.zarr", "conch_tiles", "tiles", features * 2, np.arange(4))
    assert of("uni_tiles") == uni != of("conch_tiles")
    write_table(tmp_path / "a.zarr", "conch_tiles", "tiles", features * 3, np.arange(4))
    assert of("uni_tiles") == uni
    write_table(tmp_path / "a.zarr", "uni_tiles", "tiles", features * 3, np.arange(4))
    assert of("uni_tiles") != uni
