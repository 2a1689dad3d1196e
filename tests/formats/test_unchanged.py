"""A file is asked once per process as long as it stays as it is, and again as soon as it was changed."""

import os
import threading
from collections import Counter
from pathlib import Path

import formats_for_tests as written
import h5py
import numpy as np
import pytest

from milbench.errors import FeatureFileError
from milbench.formats import open_features, unchanged
from milbench.formats.hdf5_file import Hdf5File

VALUES = np.arange(24, dtype=np.float16).reshape(4, 6)
COORDS = np.array([[0, 0], [256, 0], [0, 256], [256, 256]])


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    unchanged.forget_all()


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often HDF5 opened each file, by its path."""
    found: Counter[str] = Counter()
    by_library = h5py.h5f.open

    def counted(name: bytes, *how: object) -> object:
        found[os.fsdecode(name)] += 1
        return by_library(name, *how)

    monkeypatch.setattr(h5py.h5f, "open", counted)
    return found


@pytest.mark.parametrize(
    "layout", ["clam_h5", "clam_sites", "trident_patches", "stamp_today", "torchmil_h5", "extracted"]
)
def test_two_epochs_and_all_questions_before_open_each_file_once(
    tmp_path: Path, opens: Counter[str], layout: str
) -> None:
    folder, _ = getattr(written, layout)(tmp_path / layout, {"a": written.Slide(VALUES, COORDS)})
    reader = open_features(folder)
    opens.clear()  # to recognise a layout, one file of the folder is opened
    unchanged.forget_all()
    headers = [reader.header("a") for _ in range(8)]
    bags = [reader.load("a") for _ in range(2)]
    assert headers == headers[:1] * 8
    assert set(opens.values()) == {1}  # before: 8 for headers, and one or two more per epoch
    for bag in bags:
        np.testing.assert_array_equal(bag.features.numpy(), VALUES)
        assert bag.coords is not None
        assert bag.coords.tolist() == bags[0].coords.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("layout", ["npy", "npz", "clam_pt", "pt_dict", "trident_pt", "owkin", "torchmil_npy"])
def test_headers_of_other_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    folder, _ = getattr(written, layout)(tmp_path / layout, {"a": written.Slide(VALUES, COORDS)})
    reader = open_features(folder)
    header = reader.header("a")
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("a file was opened again"))
    monkeypatch.setattr("zipfile.ZipFile.__init__", lambda *_, **__: pytest.fail("an archive was opened again"))
    assert reader.header("a") == header


def write(path: Path, values: np.ndarray, **how: object) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=values, **how)


@pytest.mark.parametrize("how", [{}, {"chunks": (1, 6)}])
def test_a_file_that_was_changed_gives_its_new_sizes_and_values(tmp_path: Path, how: dict[str, object]) -> None:
    path = tmp_path / "a.h5"
    write(path, VALUES, **how)
    reader = open_features(tmp_path)
    for values in (VALUES, VALUES + 1, VALUES[:2], VALUES.astype(np.float32)):
        write(path, values, **how)
        os.utime(path, ns=(len(values), int(values[0, 0]) + values.itemsize))
        for _ in range(2):
            assert reader.header("a")[:3] == (*values.shape, values.dtype.name)
            np.testing.assert_array_equal(reader.load("a").features.numpy(), values)


def test_values_written_in_the_other_byte_order_come_back_each_time(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", VALUES.astype(">f2"))
    reader = open_features(tmp_path)
    for _ in range(3):
        np.testing.assert_array_equal(reader.load("a").features.numpy(), VALUES)


def test_a_file_replaced_between_its_header_and_its_values_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path, VALUES)
    open_features(tmp_path).load("a")
    with Hdf5File(path) as file:
        stored = file.array("features")
        write(tmp_path / "b.h5", VALUES + 1)
        (tmp_path / "b.h5").replace(path)
        with pytest.raises(FeatureFileError, match=r"a\.h5 was changed while it was read"):
            file.fill(np.empty(stored.shape, stored.dtype), stored.address or 0)


def test_a_file_whose_values_lie_elsewhere_is_asked_each_time(tmp_path: Path) -> None:
    source, folder = tmp_path / "source.h5", tmp_path / "features"
    folder.mkdir()
    write(source, VALUES)
    with h5py.File(folder / "a.h5", "w") as file:
        file["features"] = h5py.ExternalLink("../source.h5", "/features")
    reader = open_features(folder)
    for values in (VALUES, VALUES + 1):
        write(source, values)
        np.testing.assert_array_equal(reader.load("a").features.numpy(), values)


def test_threads_that_read_one_slide_for_the_first_time_all_get_its_values(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", VALUES)
    reader = open_features(tmp_path)
    unchanged.forget_all()
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(np.array_equal(reader.load("a").features.numpy(), VALUES)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
