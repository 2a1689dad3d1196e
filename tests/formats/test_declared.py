"""A features.json fills in what files do not tell, and what contradicts a file is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders_for_tests import write_h5
from formats_for_tests import Slide, write_extracted

from milbench.formats import SlideHeader, open_features
from milbench.formats.declared import DeclaredFacts, completed, declared_beside, transform_text

FEATURES = np.ones((2, 3), dtype=np.float32)


def declare(folder: Path, **told: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "features.json").write_text(json.dumps(told))


def test_files_that_tell_nothing_get_what_is_declared(tmp_path: Path) -> None:
    write_h5(tmp_path / "a.h5", FEATURES)
    declare(tmp_path, encoder="uni", mpp=0.5, normalization="ImageNet", weights_sha256="ab", unknown=[1])
    header = open_features(tmp_path).header("a")
    assert (header.encoder, header.mpp, header.transform, header.weights_sha256) == ("uni", 0.5, "ImageNet", "ab")
    assert (header.magnification, header.facts_problem) == (None, "")


def test_what_a_file_says_goes_first_and_the_contradiction_is_said(tmp_path: Path) -> None:
    write_extracted(tmp_path / "a.h5", Slide(FEATURES, FEATURES[:, :2]), encoder="RetCCL", mpp=0.5)
    declare(tmp_path, encoder="retccl", mpp=0.505)
    assert open_features(tmp_path).header("a").facts_problem == "", "letters' case and 2 % make no difference"
    declare(tmp_path, encoder="uni", mpp=1.0)
    header = open_features(tmp_path).header("a")
    assert (header.encoder, header.mpp) == ("RetCCL", 0.5)
    path = tmp_path / "features.json"
    assert header.facts_problem == (
        f"{path} says that the encoder is uni, the file says RetCCL; {path} says that the mpp is 1.0, the file says 0.5"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1, 2]", "is no JSON object"),
        ('{"encoder": "uni"', "is no JSON object"),
        ('{"encoder": 7}', "encoder is '7'; expected text"),
        ('{"mpp": "0.5"}', "mpp is '0.5'; expected a number above 0"),
        ('{"mpp": -1}', "mpp is '-1'; expected a number above 0"),
        ('{"mpp": 1' + "0" * 400 + "}", "mpp is '1000"),
        ('{"magnification": true}', "magnification is 'True'; expected a number above 0"),
    ],
)
def test_a_declaration_that_cannot_be_used_is_said_and_stops_nothing(tmp_path: Path, text: str, problem: str) -> None:
    write_h5(tmp_path / "a.h5", FEATURES)
    (tmp_path / "features.json").write_text(text)
    header = open_features(tmp_path).header("a")
    assert problem in header.facts_problem
    assert (header.encoder, header.mpp) == ("", None)


def test_each_folder_declares_its_own_files_and_the_one_above_the_rest(tmp_path: Path) -> None:
    for site in ("a", "b"):
        (tmp_path / site).mkdir()
        write_h5(tmp_path / site / f"{site}.h5", FEATURES)
    declare(tmp_path, encoder="uni")
    declare(tmp_path / "b", encoder="conch")
    reader = open_features(tmp_path)
    assert [reader.header(slide).encoder for slide in "ab"] == ["uni", "conch"]


def test_nothing_beside_declares_nothing(tmp_path: Path) -> None:
    assert declared_beside(tmp_path) == DeclaredFacts()


def test_one_transform_is_one_text_however_it_was_stored() -> None:
    as_text, as_object = '{"std": [1], "mean":[0]}', {"mean": [0], "std": [1]}
    assert transform_text(as_text) == transform_text(as_object) == '{"mean": [0], "std": [1]}'
    assert transform_text("ImageNet") == "ImageNet"


def test_declarations_of_two_places_are_held_against_each_other() -> None:
    header = completed(SlideHeader(2, 3, "float32"), DeclaredFacts("uni", source="features.json"))
    header = completed(header, DeclaredFacts("conch", 0.5, source="cohort.yaml"))
    assert (header.encoder, header.mpp) == ("uni", 0.5)
    assert header.facts_problem == "cohort.yaml says that the encoder is conch, the file says uni"


def test_a_contradiction_is_short_however_long_the_values_are(tmp_path: Path) -> None:
    write_extracted(tmp_path / "a.h5", Slide(FEATURES, FEATURES[:, :2]), encoder="RetCCL")
    declare(tmp_path, encoder="u" * 100_000)
    assert len(open_features(tmp_path).header("a").facts_problem) < 1000
