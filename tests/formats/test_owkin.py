"""Owkin's arrays: places in front of the features are noticed, and nothing else is taken for them."""

import os
from pathlib import Path

import numpy as np
import pytest

from milbench.errors import FeatureFileError
from milbench.formats import arrays, open_features


def fronted(n: int, seed: int = 0, width: int = 4) -> np.ndarray:
    """Level 16, tiles of a row of a slide, then features with fractions."""
    features = np.random.default_rng(seed).standard_normal((n, width))
    return np.column_stack([np.full(n, 16), np.arange(n) % 7, np.arange(n) // 7, features]).astype(np.float32)


def layout(folder: Path, **slides: np.ndarray) -> str:
    for name, values in slides.items():
        np.save(folder / f"{name}.npy", values)
    return open_features(folder).layout.partition(":")[0]


def test_places_are_taken_off_the_features(tmp_path: Path) -> None:
    assert layout(tmp_path, a=fronted(9), b=fronted(1, 1)) == "Owkin"
    loaded = open_features(tmp_path).load("a")
    np.testing.assert_array_equal(loaded.features.numpy(), fronted(9)[:, 3:])
    assert (loaded.unit, loaded.patch_size, loaded.coords[8].tolist()) == ("tiles", 1.0, [1.0, 1.0])


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values[:, 3:],  # no place in front
        lambda values: values + [0, 0.5, 0] + [0] * 4 if values.shape[1] == 3 else values + np.r_[0, 0.5, np.zeros(5)],
        lambda values: np.column_stack([np.arange(len(values)), values[:, 1:]]),  # a level per tile
        lambda values: values * np.r_[1, 0, 0, np.ones(4)],  # columns that are zero everywhere are no places
        lambda values: values * np.r_[-1, np.ones(6)],
        np.round,  # features of whole numbers, as in MUSK
        lambda values: values[:1],  # one tile is no evidence
        lambda values: values[:, :3],  # nothing but places
    ],
)
def test_features_that_only_look_a_little_like_it_stay_features(tmp_path: Path, change: object) -> None:
    assert layout(tmp_path, a=change(fronted(9)).astype(np.float32)) == "NumPy"  # type: ignore[operator]


def test_one_slide_without_places_makes_plain_arrays_of_all(tmp_path: Path) -> None:
    assert layout(tmp_path, a=fronted(9), b=fronted(9)[:, ::-1]) == "NumPy"


def test_a_later_file_without_places_is_named(tmp_path: Path) -> None:
    layout(tmp_path, **{f"s{i}": fronted(9, i) for i in range(5)}, z=fronted(9)[:, ::-1])
    with pytest.raises(FeatureFileError, match=r"z\.npy has no level, x and y in its first 3 columns"):
        open_features(tmp_path).load("z")


def test_one_slide_in_a_folder_of_its_own_is_called_as_the_folder(tmp_path: Path) -> None:
    (tmp_path / "TCGA-1.a").mkdir()
    np.save(tmp_path / "TCGA-1.a" / "features.npy", fronted(9))
    assert list(open_features(tmp_path).paths) == ["TCGA-1.a"]


def test_slides_in_folders_of_their_own_may_lie_in_folders_of_sites(tmp_path: Path) -> None:
    for place in ("Bergen/s1", "Bergen/s2", "Oslo/s3"):
        (tmp_path / place).mkdir(parents=True)
        np.save(tmp_path / place / "features.npy", fronted(9))
    reader = open_features(tmp_path)
    assert sorted(reader.paths) == ["s1", "s2", "s3"]
    assert reader.layout.startswith("Owkin: 3 ")


@pytest.mark.parametrize("dtype", ["<f2", ">f4"])
@pytest.mark.parametrize("n", [2, 700])
def test_a_file_is_read_piece_by_piece_and_its_places_are_taken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, dtype: str
) -> None:
    monkeypatch.setattr(arrays, "PIECE", 10_000)  # of several rows, and the last of fewer
    stored = np.random.default_rng(0).standard_normal((n, 3 + 130)).astype(dtype)
    stored[:, 0], stored[:, 1], stored[:, 2] = 2, np.arange(n), 5
    np.save(tmp_path / "a.npy", stored)
    reader = open_features(tmp_path)
    monkeypatch.setattr(arrays, "load_array", lambda *_, **__: pytest.fail("the file is mapped"))
    found = reader.load("a")
    assert np.array_equal(found.features.numpy(), stored[:, 3:])
    assert found.coords is not None
    assert np.array_equal(found.coords.numpy(), stored[:, 1:3])


def test_a_file_that_grows_shorter_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", fronted(5000))
    reader = open_features(tmp_path)

    def cut(*_: object) -> bool:
        os.truncate(tmp_path / "a.npy", 100_000)
        return True

    monkeypatch.setattr(arrays, "is_float", cut)  # behind the look at the size
    with pytest.raises(FeatureFileError, match=r"a\.npy is no readable NumPy file \(it ends within an array\)"):
        reader.load("a")
