"""kaiko-eva's lists of patches: one tensor each, in an order that nobody can tell from the file."""

from pathlib import Path

import pytest
import torch

from milbench.errors import FeatureFileError
from milbench.formats import open_features
from milbench.intake.findings import order_findings


def written(folder: Path, content: object) -> Path:
    (folder / "in").mkdir()
    (folder / "manifest.csv").write_text("origin,embeddings,target,split\nin/a.tif,in/a.pt,0,train\n")
    torch.save(content, folder / "in" / "a.pt")
    return folder


@pytest.mark.parametrize("inside", ["", "in"])
def test_the_manifest_may_lie_above(inside: str, tmp_path: Path) -> None:
    reader = open_features(written(tmp_path, [torch.ones(3), torch.zeros(3)]) / inside)
    assert reader.layout.startswith("kaiko-eva: 1 ")
    assert reader.load("a").features.tolist() == [[1, 1, 1], [0, 0, 0]]


def test_models_that_lay_patches_out_are_warned_of(tmp_path: Path) -> None:
    header = open_features(written(tmp_path, [torch.ones(3)] * 2)).header("a")
    (finding,) = order_findings({"a": header})
    assert finding.severity == "warning"
    assert "1 slide (a): kaiko-eva stores a slide's patches in blocks, the last block first." in finding.text
    assert "M4, MMoE+MP-AMIL, RRT-MIL, TransMIL lay patches out" in finding.text


def test_one_patch_has_no_order(tmp_path: Path) -> None:
    assert not order_findings({"a": open_features(written(tmp_path, [torch.ones(3)])).header("a")})


def test_an_empty_list_is_an_empty_bag(tmp_path: Path) -> None:
    reader = open_features(written(tmp_path, []))
    assert (reader.header("a").n_patches, len(reader.load("a").features)) == (0, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(2, 3), "holds a Tensor; expected a list of one float tensor per patch"),
        ([torch.ones(3), 1], "holds a list; expected a list of one float tensor per patch"),
        ([torch.ones(3), torch.ones(4)], "no floats of one shape and dtype"),
        ([torch.ones(3, dtype=torch.int64)], "no floats of one shape and dtype"),
        ([torch.ones(1).expand(3)], "no floats of one shape and dtype"),
    ],
)
def test_what_is_no_list_of_patches_is_refused(content: object, message: str, tmp_path: Path) -> None:
    reader = open_features(written(tmp_path, content))
    for use in (reader.header, reader.load):
        with pytest.raises(FeatureFileError, match=message):
            use("a")
