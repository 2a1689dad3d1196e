"""A file is asked once per process as long as it stays as it is, and again as soon as it was changed."""

import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import formats_for_tests as written
import h5py
import numpy as np
import pytest

from milbench.errors import FeatureFileError
from milbench.formats import clam, hdf5, hdf5_file, open_features, unchanged
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

    def read_what_is_replaced() -> None:
        with Hdf5File(path) as file:
            stored = file.array("features")
            write(tmp_path / "b.h5", VALUES + 1)
            (tmp_path / "b.h5").replace(path)
            file.fill(np.empty(stored.shape, stored.dtype), stored.address or 0)
            pytest.fail("values of another file were read")

    with pytest.raises(FeatureFileError, match=r"a\.h5 was changed while it was read"):
        read_what_is_replaced()


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


def test_what_another_file_says_is_not_remembered_of_the_one_that_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link leads to another file for a moment, just before HDF5 opens it."""
    write(tmp_path / "one", VALUES)
    write(tmp_path / "other", VALUES[:2] + 1)
    link, by_library = tmp_path / "a.h5", h5py.h5f.open
    link.symlink_to("one")

    def lead_to(name: str) -> None:
        link.unlink()
        link.symlink_to(name)

    def opened_elsewhere(*how: object) -> object:
        lead_to("other")
        return by_library(*how)

    monkeypatch.setattr(h5py.h5f, "open", opened_elsewhere)
    np.testing.assert_array_equal(hdf5.read(link, clam.describe).features.numpy(), VALUES[:2] + 1)
    monkeypatch.undo()
    lead_to("one")
    for _ in range(2):
        np.testing.assert_array_equal(hdf5.read(link, clam.describe).features.numpy(), VALUES)


def written_by_another(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["features"][2:] = 0
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("meanwhile", "is_refused"),
    [
        (written_by_another, True),
        (lambda path: os.link(path, f"{path}.copy"), False),
        (lambda path: path.chmod(0o444), False),
    ],
    ids=["written", "linked", "made read-only"],
)
def test_values_that_are_written_while_they_are_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Path], None], *, is_refused: bool
) -> None:
    path = tmp_path / "a.h5"
    write(path, VALUES)
    hdf5.read(path, clam.describe)
    read = hdf5_file.fill

    def read_slowly(descriptor: int, memory: memoryview, address: int) -> None:
        read(descriptor, memory[: len(memory) // 2], address)
        meanwhile(path)
        read(descriptor, memory[len(memory) // 2 :], address + len(memory) // 2)

    monkeypatch.setattr(hdf5_file, "fill", read_slowly)
    if is_refused:
        with pytest.raises(FeatureFileError, match=r"a\.h5 was changed while it was read"):
            hdf5.read(path, clam.describe)
    else:
        np.testing.assert_array_equal(hdf5.read(path, clam.describe).features.numpy(), VALUES)


def test_texts_of_any_length_are_not_remembered(tmp_path: Path, opens: Counter[str]) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["short"], file.attrs["long"], file.attrs["several"] = "uni", "x" * 5000, ["x" * 5000, "y"]
    said: list[dict[str, object]] = []
    for _ in range(2):
        with Hdf5File(path) as file:
            said.append(
                {name: file.attrs[name] for name in ("short", "long")} | {"several": list(file.attrs["several"])}
            )
    assert said == [{"short": "uni", "long": "x" * 5000, "several": ["x" * 5000, "y"]}] * 2
    assert opens[str(path)] == 2
    known = unchanged.remembered(unchanged.of_content(path, "HDF5"))
    assert set(known.attributes) == {("", "short")}


# ---- chunks --------------------------------------------------------------------------------------

MANY = np.arange(600 * 24, dtype=np.float32).reshape(600, 24)


def chunked(path: Path, values: np.ndarray, **how: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=values, **how)
    return path


@pytest.mark.parametrize("chunks", [(1, 24), (7, 24), (7, 8)], ids=str)
@pytest.mark.parametrize("how", [{"compression": "gzip"}, {"compression": "gzip", "shuffle": True}, {}], ids=str)
def test_chunks_are_read_without_the_library_from_the_second_time_on_until_the_file_is_another(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opens: Counter[str],
    chunks: tuple[int, int],
    how: dict[str, object],
) -> None:
    monkeypatch.setattr(hdf5, "SMALL", 0)  # small arrays are the library's
    for values in (MANY, MANY + 1, MANY[:500]):
        chunked(tmp_path / "a.h5", values, chunks=chunks, **how)
        slides = open_features(tmp_path)
        for _ in range(3):
            opens.clear()
            np.testing.assert_array_equal(slides.load("a").features.numpy(), values)
        needs_library = not how and chunks == (7, 8)  # bands of rows may be
        assert set(opens.values()) == ({1} if needs_library else set())


@pytest.mark.parametrize("how", [{}, {"compression": "gzip"}], ids=str)
def test_a_file_that_is_cut_when_its_chunks_are_known_is_refused_by_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, object]
) -> None:
    monkeypatch.setattr(hdf5, "SMALL", 0)
    path = chunked(tmp_path / "a.h5", MANY, chunks=(7, 24), **how)
    slides = open_features(tmp_path)
    for _ in range(2):
        slides.load("a")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(FeatureFileError, match=r"a\.h5 is no readable HDF5 file"):
        slides.load("a")


def test_a_chunk_that_is_damaged_in_place_is_refused_by_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "SMALL", 0)
    path = chunked(tmp_path / "a.h5", MANY, chunks=(7, 24), compression="gzip")
    with h5py.File(path) as file:
        chunk = file["features"].id.get_chunk_info(3)
    slides = open_features(tmp_path)
    for _ in range(2):
        slides.load("a")
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(bytes(8))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(FeatureFileError, match=r"a\.h5 is no readable HDF5 file"):
        slides.load("a")
