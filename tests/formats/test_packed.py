"""Packs: every read gives the same, the header is asked once, and anew after a change."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from milbench.errors import FeatureFileError
from milbench.formats import PIXELS, SlideFeatures, packed, unchanged
from milbench.formats.mapped_tensor import located_in_safetensors
from milbench.formats.packed import read

FACTS = {"version": 1, "unit": PIXELS, "patch_size": 256}


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    unchanged.forget_all()


def features(dtype: torch.dtype = torch.float16, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((50, 6))).to(dtype)


COORDS, LABELS = torch.arange(100).reshape(50, 2), torch.ones(50, 3, dtype=torch.uint8)
CONTENTS = {
    **{str(dtype): {"features": features(dtype)} for dtype in packed.FLOATS},
    "coordinates": {"features": features(), "coords": COORDS},
    "all": {"features": features(), "coords": COORDS, "instance_labels": LABELS},
    "odd coordinates": {"features": features(), "coords": COORDS[:7]},
    "a batch": {"features": features()[None]},
    "empty": {"features": torch.zeros(0, 6)},
}


def written(path: Path, tensors: dict[str, torch.Tensor], **facts: object) -> Path:
    save_file(tensors, path, {packed.MARK: json.dumps({**FACTS, **facts})})
    return path


def alike(one: SlideFeatures, other: SlideFeatures) -> bool:
    same = all(
        (mine is None) == (theirs is None)
        and (mine is None or (mine.dtype == theirs.dtype and torch.equal(mine, theirs)))
        for mine, theirs in zip(one, other, strict=True)
        if mine is None or isinstance(mine, torch.Tensor)
    )
    return same and (one.patch_size, one.unit, one.coords_problem) == (
        other.patch_size,
        other.unit,
        other.coords_problem,
    )


@pytest.mark.parametrize("kind", CONTENTS)
def test_every_read_gives_what_the_first_one_gave(tmp_path: Path, kind: str) -> None:
    problem = "" if "coords" in CONTENTS[kind] else "none were kept"
    path = written(tmp_path / "a.safetensors", CONTENTS[kind], coords_problem=problem)
    first, second = read(path), read(path)
    assert alike(first, second)
    stored = CONTENTS[kind]["features"]
    assert torch.equal(first.features, stored.reshape(stored.shape[-2:]))
    assert first.features.untyped_storage().nbytes() == second.features.untyped_storage().nbytes() == stored.nbytes


@pytest.mark.parametrize("kind", [kind for kind in CONTENTS if kind != "empty"])
def test_the_header_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = written(tmp_path / "a.safetensors", CONTENTS[kind])
    read(path)
    monkeypatch.setattr(packed, "safe_open", lambda *_, **__: pytest.fail("the header was asked again"))
    assert len(read(path).features) == 50


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", CONTENTS["all"])
    read(path)
    os.utime(path, ns=(1, 1))
    written(path, {**CONTENTS["all"], "features": features(seed=1)}, patch_size=512)  # of the same size
    assert torch.equal(read(path).features, features(seed=1))
    assert read(path).patch_size == 512
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(FeatureFileError, match=r"a\.safetensors is no readable safetensors file"):
        read(path)
    path.unlink()
    with pytest.raises(FeatureFileError, match=r"a\.safetensors cannot be read: No such file"):
        read(path)


def test_truth_that_does_not_fit_is_refused_at_every_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", {"features": features(), "instance_labels": LABELS[:7]})
    for _ in range(2):
        with pytest.raises(FeatureFileError, match="'instance_labels' is uint8"):
            read(path)


def test_a_change_of_the_features_stays_in_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", CONTENTS["all"])
    for _ in range(3):
        found = read(path).features
        assert torch.equal(found, features())
        found.zero_()


def test_numbers_that_lie_between_two_places_of_their_type_are_left_to_safetensors(tmp_path: Path) -> None:
    """Another tool's file may begin anywhere. A mapped tensor begins at a multiple of its own bytes."""
    values = features(torch.float32)
    for n_spaces in range(4):
        header = json.dumps({"features": {"dtype": "F32", "shape": [50, 6], "data_offsets": [0, 1200]}}).encode()
        header += b" " * (-len(header) % 4 + n_spaces)
        path = tmp_path / f"{n_spaces}.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + values.numpy().tobytes())
        found = located_in_safetensors(path, {"features": values})
        assert (found is None) == (n_spaces > 0)
