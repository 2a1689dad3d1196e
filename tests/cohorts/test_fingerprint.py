"""A cohort's fingerprint notices other labels and features, and no other place."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from folders_for_tests import WIDTH, write_h5

from milbench.cohorts.cohort import folder_cohort
from milbench.errors import FeatureFileError


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
