"""Where features lie: folders below are found or named, never half of them read in silence."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from folders_for_tests import write_h5

from milbench.errors import FeatureFileError
from milbench.formats import open_features

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_h5(path, FEATURES)


def test_one_folder_per_site_is_one_cohort(tmp_path: Path) -> None:
    for place in ("Bergen/a.h5", "Århus/b.h5", "Århus/2021/c.h5"):
        write(tmp_path / place)
    reader = open_features(tmp_path)
    assert sorted(reader.paths) == ["a", "b", "c"]
    assert "3 .h5 files in" in reader.layout
    assert "3 folders below it: Bergen, Århus, Århus/2021" in reader.layout
    assert torch.equal(reader.load("c").features, torch.from_numpy(FEATURES))


def test_an_encoders_folder_above_clams_is_found(tmp_path: Path) -> None:
    write(tmp_path / "UNI" / "h5_files" / "a.h5")
    (tmp_path / "UNI" / "pt_files").mkdir()
    torch.save(torch.from_numpy(FEATURES), tmp_path / "UNI" / "pt_files" / "a.pt")
    assert open_features(tmp_path).paths["a"].suffix == ".h5"


def test_a_slide_in_two_folders_is_an_extraction_to_choose(tmp_path: Path) -> None:
    for encoder in ("UNI", "CONCH"):
        for slide in ("a", "b"):
            write(tmp_path / encoder / f"{slide}.h5")
    with pytest.raises(
        FeatureFileError, match=r"holds slide a in CONCH and in UNI\. Point `features:` to the extraction"
    ):
        open_features(tmp_path)


def test_coordinates_masks_and_hidden_files_below_are_no_features(tmp_path: Path) -> None:
    for place in ("site/a.h5", "patches/b.h5", ".cache/c.h5", "site/.d.h5"):
        write(tmp_path / place)
    assert list(open_features(tmp_path).paths) == ["a"]


def test_files_above_are_read_alone_and_those_below_are_named(tmp_path: Path) -> None:
    for place in ("a.h5", "batch2/b.h5", "batch2/c.h5", "batch3/d.h5"):
        write(tmp_path / place)
    reader = open_features(tmp_path)
    assert list(reader.paths) == ["a"]
    assert reader.below(["b", "c", "d", "nowhere"]) == "2 in batch2, 1 in batch3"
    assert reader.below(["nowhere"]) == ""


@pytest.mark.parametrize(("suffix", "kind"), [(".csv", "2 .csv files"), (".pkl", "2 .pkl files"), (".parquet", "2 .parquet files")])  # fmt: skip
def test_what_lies_there_instead_is_named(tmp_path: Path, suffix: str, kind: str) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}{suffix}").write_text("")
    with pytest.raises(
        FeatureFileError, match=rf"no features that milbench knows \(it holds {kind}; if those are features, save"
    ):
        open_features(tmp_path)


@pytest.mark.parametrize("suffix", [".hdf5", ".pth"])
def test_a_rarer_ending_is_read_and_never_goes_before_a_known_one(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / "a.hdf5") if suffix == ".hdf5" else torch.save(torch.from_numpy(FEATURES), tmp_path / "a.pth")
    assert torch.equal(open_features(tmp_path).load("a").features, torch.from_numpy(FEATURES))
    np.save(tmp_path / "b.npy", FEATURES)
    assert list(open_features(tmp_path).paths) == ["b"]


def test_names_in_other_code_points_are_the_labels_slides(tmp_path: Path) -> None:
    decomposed, label = unicodedata.normalize("NFD", "Zürich-1"), "Zürich-1"
    write(tmp_path / f"{decomposed}.h5")
    write(tmp_path / "plain.h5")
    reader = open_features(tmp_path)
    assert reader.spelled_as(["plain"]) is reader
    spelled = reader.spelled_as([label, "plain"])
    assert sorted(spelled.paths) == ["Zürich-1", "plain"]
    assert "1 names are spelled with other code points" in spelled.layout
    assert reader.spelled_as([decomposed]) is reader, "labels and files that were alike stay as they are"


def test_endings_in_capital_letters_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.H5").touch()
    with pytest.raises(FeatureFileError, match=r"it holds 1 \.H5 file: give them the ending \.h5, in small letters"):
        open_features(tmp_path)


@pytest.mark.parametrize("job", ["...x_256px_0px_overlap", "2.0.5x_256px_0px_overlap"])
def test_a_folder_that_is_named_nearly_as_tridents_tells_no_magnification(tmp_path: Path, job: str) -> None:
    folder = tmp_path / job / "features_uni"
    folder.mkdir(parents=True)
    write_h5(folder / "a.h5", np.ones((2, 3), np.float32))
    header = open_features(folder).header("a")
    assert (header.encoder, header.magnification) == ("uni", None)
