"""Stores of zarr: nothing runs, nothing that was lost is read as zeros, and a store stands for one file."""

import base64
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr_stores import write_array, write_metadata, write_tiatoolbox, write_wsidata

from milbench.errors import FeatureFileError, UsageError
from milbench.formats import open_features
from milbench.formats.linked import files_of, n_bytes

N = 6
COORDS = np.stack([np.arange(N) % 3, np.arange(N) // 3], axis=1) * 256
FEATURES = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """A folder with tiatoolbox's store of one slide, `a.zarr`."""
    write_tiatoolbox(tmp_path / "a.zarr", FEATURES, COORDS)
    return tmp_path


def test_without_the_extra_the_refusal_names_it(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UsageError, match=r"pip install 'milbench\[zarr\]'"):
        open_features(stores)


def test_a_chunk_that_was_lost_is_not_read_as_zeros(stores: Path) -> None:
    write_array(stores / "a.zarr" / "features", FEATURES, chunks=(2, 2))
    np.testing.assert_array_equal(open_features(stores).load("a").features.numpy(), FEATURES)
    (stores / "a.zarr/features/c/1/1").unlink()
    reader = open_features(stores)
    for use in (reader.header, reader.load):
        with pytest.raises(
            FeatureFileError, match="5 of the 6 chunks of 'features' are there, and zarr would read zeros"
        ):
            use("a")


def test_a_chunk_that_was_cut_is_refused(stores: Path) -> None:
    chunk = stores / "a.zarr/features/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(FeatureFileError, match=r"a\.zarr is no readable store of zarr"):
        open_features(stores).load("a")


def test_coordinates_that_were_lost_stop_no_training(stores: Path) -> None:
    (stores / "a.zarr/coordinates/c/0/0").unlink()
    loaded = open_features(stores).load("a")
    np.testing.assert_array_equal(loaded.features.numpy(), FEATURES)
    assert loaded.coords is None
    assert "0 of the 1 chunks of 'coordinates' are there" in loaded.coords_problem
    assert open_features(stores).header("a").coords_problem == loaded.coords_problem


def test_arrays_of_a_later_writing_are_read_whole_whatever_was_consolidated(stores: Path) -> None:
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(stores / "a.zarr", zarr_format=3)
    write_array(stores / "a.zarr" / "features", np.vstack([FEATURES, FEATURES]))
    write_array(stores / "a.zarr" / "coordinates", np.tile(np.vstack([COORDS, COORDS]), 2))
    assert open_features(stores).load("a").features.shape == (2 * N, 4)


def write_filtered(array: Path, codec: str, content: bytes) -> None:
    """An array of zarr's format 2, whose one chunk passes a filter."""
    shutil.rmtree(array)
    array.mkdir()
    told = {
        "zarr_format": 2, "shape": [N, 4], "chunks": [N, 4], "dtype": "<f4", "compressor": None, "fill_value": 0, "order": "C",
        "filters": [{"id": codec}],
    }  # fmt: skip
    (array / ".zarray").write_text(json.dumps(told))
    (array / "0.0").write_bytes(content)
    (array.parent / "zarr.json").unlink()
    (array.parent / ".zgroup").write_text('{"zarr_format": 2}')


def test_a_codec_that_unpickles_is_never_run(stores: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    write_filtered(stores / "a.zarr/features", "pickle", f"cos\nmkdir\n(V{ran}\ntR.".encode())
    reader = open_features(stores)
    for use in (reader.header, reader.load):
        with pytest.raises(FeatureFileError, match=r"a\.zarr"):
            use("a")
    assert not ran.exists()


def test_a_codec_that_nobody_needs_for_numbers_is_refused(stores: Path) -> None:
    write_filtered(stores / "a.zarr/features", "base64", base64.b64encode(FEATURES.tobytes()))
    with pytest.raises(
        FeatureFileError, match="is written with the codec base64 and was not read, since some codecs run code"
    ):
        open_features(stores).load("a")


def test_more_values_than_the_bytes_can_hold_are_refused_before_memory_is_set_aside(stores: Path) -> None:
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    write_metadata(stores / "a.zarr/features", (10**7, 4096), np.dtype(np.float32), (10**7, 4096), codecs)
    with pytest.raises(FeatureFileError, match=r"declares \(10000000, 4096\) values, which .* bytes cannot hold"):
        open_features(stores).header("a")


def test_a_pipe_in_a_store_is_refused_and_not_waited_for(stores: Path) -> None:
    os.mkfifo(stores / "a.zarr/features/c/0/1")
    with pytest.raises(FeatureFileError, match="is a named pipe"):
        open_features(stores).header("a")


def test_a_store_that_is_a_file_is_told_so(stores: Path) -> None:
    (stores / "b.zarr").write_bytes(b"PK")
    with pytest.raises(FeatureFileError, match=r"b\.zarr is a file, not a folder"):
        open_features(stores).header("b")


def test_scores_of_classes_are_no_features(stores: Path) -> None:
    (stores / "a.zarr/features").rename(stores / "a.zarr/probabilities")
    with pytest.raises(
        FeatureFileError, match="holds 'probabilities', the scores of tiatoolbox's classifiers, not features"
    ):
        open_features(stores).header("a")


def test_stores_that_no_reader_knows_are_told_apart(tmp_path: Path) -> None:
    write_array(tmp_path / "a.zarr" / "0", FEATURES)
    with pytest.raises(FeatureFileError, match="holds 1 stores of zarr, and none of the first 5 is one of wsidata"):
        open_features(tmp_path)


def test_files_of_a_table_are_its_own_and_its_tiles_and_nothing_of_other_tables(tmp_path: Path) -> None:
    write_wsidata(tmp_path / "a.zarr", FEATURES, COORDS)
    table = open_features(tmp_path).paths["a"]
    before = files_of(table)
    write_array(tmp_path / "a.zarr/tables/conch_tiles/X", FEATURES)
    write_array(tmp_path / "a.zarr/shapes/tissues/odd", FEATURES)
    assert files_of(table) == before
    names = {str(path.relative_to(tmp_path / "a.zarr")) for path in before}
    assert {"tables/uni_tiles/X/c/0/0", "shapes/tiles/shapes.parquet"} <= names
    assert n_bytes(table) == sum(path.stat().st_size for path in before)
