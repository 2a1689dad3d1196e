"""Mapped tensor: a `.pt` file gives the same at every read, asks its pickle once, and anew after a change."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from milbench.errors import FeatureFileError
from milbench.formats import tensors, unchanged
from milbench.formats.mapped_tensor import located


def features(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((50, 6)).astype(np.float32))


COORDS = torch.arange(100).reshape(50, 2)
CONTENTS = {
    "tensor": features(),
    "half": features().half(),
    "part": features()[10:40, 1:4],
    "turned": features().T,
    "parameter": torch.nn.Parameter(features()),
    "dict": {"features": features(), "coords": COORDS},
    "dict without": {"feats": features()},
    "odd coordinates": {"features": features(), "coords": torch.zeros(50, 2, dtype=torch.complex64)},
    "one coordinate": {"features": features(), "coords": torch.tensor(3)},
    "of one length": {"features": features(), "coords": torch.zeros(50, 6)},
    "shared": {"features": (both := torch.zeros(50, 8))[:, :6], "coords": both[:, 6:]},
    "empty": torch.zeros(0, 6),
    "array": features().numpy(),
}


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    unchanged.forget_all()


@pytest.mark.parametrize("kind", CONTENTS)
def test_every_read_gives_what_the_first_one_gave(tmp_path: Path, kind: str) -> None:
    torch.save(CONTENTS[kind], tmp_path / "a.pt")
    first, second = (tensors.open_pt(tmp_path / "a.pt") for _ in range(2))
    assert (first.kind, first.coords_problem) == (second.kind, second.coords_problem)
    assert first.features.stride() == second.features.stride()
    assert torch.equal(first.features, second.features)
    assert (first.coords is None) == (second.coords is None)
    if first.coords is not None:
        assert torch.equal(first.coords, second.coords)


@pytest.mark.parametrize("kind", ["tensor", "half", "part", "turned", "dict", "dict without", "shared"])
def test_the_pickle_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    torch.save(CONTENTS[kind], tmp_path / "a.pt")
    tensors.open_pt(tmp_path / "a.pt")
    monkeypatch.setattr(tensors, "_load", lambda _path: pytest.fail("the pickle was asked again"))
    assert len(tensors.open_pt(tmp_path / "a.pt").features)


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(features(), path)
    tensors.open_pt(path)
    os.utime(path, ns=(1, 1))
    torch.save(features(1), path)  # of the same size
    assert torch.equal(tensors.open_pt(path).features, features(1))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(FeatureFileError, match=r"a\.pt is no readable \.pt file"):
        tensors.open_pt(path)
    path.unlink()
    with pytest.raises(FeatureFileError, match=r"a\.pt cannot be read: No such file"):
        tensors.open_pt(path)


def test_a_change_of_the_features_stays_in_memory(tmp_path: Path) -> None:
    torch.save(features(), tmp_path / "a.pt")
    for _ in range(3):
        found = tensors.open_pt(tmp_path / "a.pt").features
        assert torch.equal(found, features())
        found.zero_()


def test_numbers_in_another_byte_order_are_not_mapped(tmp_path: Path) -> None:
    torch.save(features(), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive, zipfile.ZipFile(tmp_path / "b.pt", "w") as other:
        for entry in archive.infolist():
            is_told = entry.filename.endswith("byteorder")
            other.writestr(entry.filename, b"big" if is_told else archive.read(entry))
    assert located(tmp_path / "a.pt", features()) is not None
    assert located(tmp_path / "b.pt", features()) is None


@pytest.mark.parametrize("damage", [b"\x80yteorder", b"None" + b"order"], ids=["no text", "another name"])
def test_a_damaged_header_that_torch_does_not_mind_is_no_error(tmp_path: Path, damage: bytes) -> None:
    """Python's zipfile minds it, by errors of several kinds."""
    path, wanted = tmp_path / "S1.pt", torch.arange(12.0).reshape(3, 4)
    torch.save(wanted, path)
    content = bytearray(path.read_bytes())
    at = content.index(b"byteorder")  # of the file's own header; the list at the end has it too
    content[at : at + len(damage)] = damage
    path.write_bytes(content)
    read = [tensors.read(path).features for _ in range(2)]
    assert all(torch.equal(each, wanted) for each in read)
