"""Files of `milbench features`: the folder is taken as it is, and a later format is refused."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from formats_for_tests import Slide, extracted

from milbench.cohorts.cohort import folder_cohort
from milbench.errors import FeatureFileError
from milbench.extraction.encoders.network import RANDOM
from milbench.formats import open_features
from milbench.intake.inspection import find_labels

SLIDE = Slide(np.ones((3, 4), dtype=np.float16), np.arange(6).reshape(3, 2) * 512)


def test_settings_and_pictures_beside_the_files_are_no_features_and_no_labels(tmp_path: Path) -> None:
    folder, _ = extracted(tmp_path / "out", {"a": SLIDE, "b": SLIDE})
    assert open_features(folder).layout.startswith("milbench features: 2 .h5 files")
    assert find_labels(folder, ["a", "b"]) == (None, 0)
    (folder / "labels.csv").write_text("case_id,slide_id,HRD\np,a,1\nq,b,0\n")
    assert find_labels(folder, ["a", "b"]) == (folder / "labels.csv", 2)
    assert list(folder_cohort(folder).files) == ["a", "b"]


def test_a_file_of_a_later_milbench_is_refused(tmp_path: Path) -> None:
    folder, _ = extracted(tmp_path / "out", {"a": SLIDE})
    with h5py.File(folder / "a.h5", "a") as file:
        file.attrs["milbench_features"] = 2
    reader = open_features(folder)
    for use in (reader.load, reader.header):
        with pytest.raises(FeatureFileError, match=r"a\.h5: a later milbench wrote it, in version 2; this one reads 1"):
            use("a")


def test_without_coordinates_the_features_are_read(tmp_path: Path) -> None:
    folder, _ = extracted(tmp_path / "out", {"a": SLIDE})
    with h5py.File(folder / "a.h5", "a") as file:
        del file["coords"]
    (folder / "features.json").unlink()
    header = open_features(folder).header("a")
    assert (header.unit, header.mpp, header.encoder) == ("", None, "retccl")


def test_weights_that_nobody_trained_make_another_encoder(tmp_path: Path) -> None:
    folder, _ = extracted(tmp_path / "out", {"a": SLIDE})
    with h5py.File(folder / "a.h5", "a") as file:
        file["features"].attrs.update({"weights_sha256": "", "weights": RANDOM})
    told = json.loads((folder / "features.json").read_text())
    (folder / "features.json").write_text(json.dumps({**told, "weights_sha256": None, "weights": RANDOM}))
    header = open_features(folder).header("a")
    assert (header.encoder, header.facts_problem) == ("retccl (random weights)", "")
