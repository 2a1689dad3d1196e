"""Stores of wsidata and lazyslide: which table, which tile is whose row, and what must not be read in silence."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from zarr_stores import rectangle, write_array, write_shapes, write_table, write_wsidata

from milbench.errors import FeatureFileError
from milbench.formats import open_features

GOLDEN = Path(__file__).parents[1] / "golden" / "wsidata_store.zip"
N, EDGE = 6, 256
COORDS = np.stack([np.arange(N) % 3, np.arange(N) // 3], axis=1) * EDGE
FEATURES = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """A folder with the store of one slide, `a.zarr`."""
    write_wsidata(tmp_path / "a.zarr", FEATURES, COORDS)
    return tmp_path


def test_a_store_that_lazyslide_wrote_is_read_as_spatialdata_reads_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(GOLDEN) as archive:
        archive.extractall(tmp_path)
    expected = json.loads((tmp_path / "expected.json").read_text())
    reader = open_features(Path(f"{tmp_path}#uni_tiles"))
    loaded, header = reader.load("s2"), reader.header("s2")
    np.testing.assert_array_equal(loaded.features.numpy(), np.array(expected["features"], np.float32))
    assert loaded.coords is not None
    assert loaded.coords.tolist() == expected["coords"]
    assert (header.encoder, header.mpp, header.patch_size, header.unit) == ("uni", 1.0, 256.0, "level-0 px")
    assert open_features(Path(f"{tmp_path}#conch_tiles")).header("s2").encoder == "conch"


def test_the_stores_of_these_tests_have_the_arrays_of_a_real_one(stores: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(GOLDEN) as archive:
        real = {name.removeprefix("s2.zarr/") for name in archive.namelist()}
    made = {str(path.relative_to(stores / "a.zarr")) for path in (stores / "a.zarr").rglob("*") if path.is_file()}
    assert made <= real
    group = zarr.open_group(stores / "a.zarr/tables/uni_tiles", mode="r", use_consolidated=False)
    np.testing.assert_array_equal(np.sort(group["obs/tile_id"][...]), np.arange(N))


def test_several_tables_are_chosen_from_by_name(stores: Path) -> None:
    write_table(stores / "a.zarr", "conch_tiles", "tiles", FEATURES * 2, np.arange(N))
    with pytest.raises(
        FeatureFileError, match=r"several tables: conch_tiles \(1\), uni_tiles \(1\)\. Name one .*#conch_tiles\."
    ):
        open_features(stores)
    np.testing.assert_array_equal(open_features(Path(f"{stores}#conch_tiles")).load("a").features.numpy(), FEATURES * 2)
    np.testing.assert_array_equal(open_features(Path(f"{stores}#uni_tiles")).load("a").features.numpy(), FEATURES)
    with pytest.raises(
        FeatureFileError, match=r"no store in .* has the table 'uni'\. Tables .*: conch_tiles \(1\), uni_tiles"
    ):
        open_features(Path(f"{stores}#uni"))


def test_a_store_without_the_table_is_named_with_what_it_has(stores: Path) -> None:
    write_wsidata(stores / "b.zarr", FEATURES, COORDS, table="conch_tiles")
    reader = open_features(Path(f"{stores}#uni_tiles"))
    assert reader.header("a").n_patches == N
    with pytest.raises(FeatureFileError, match=r"b\.zarr has no table 'uni_tiles' \(it holds conch_tiles\)"):
        reader.header("b")


def test_a_table_of_files_that_have_none_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FEATURES)
    with pytest.raises(FeatureFileError, match="holds NumPy files, which have no tables"):
        open_features(Path(f"{tmp_path}#uni"))


def test_a_folder_whose_name_has_the_mark_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run#2").mkdir()
    np.save(tmp_path / "run#2" / "a.npy", FEATURES)
    assert list(open_features(tmp_path / "run#2").paths) == ["a"]


def test_one_store_alone_is_no_folder_of_slides(stores: Path) -> None:
    with pytest.raises(FeatureFileError, match=r"a\.zarr is the store of one slide\. Name the folder"):
        open_features(stores / "a.zarr")


def test_stores_below_are_found_and_their_insides_never_searched(tmp_path: Path) -> None:
    for site in ("Bergen", "Oslo"):
        write_wsidata(tmp_path / site / f"{site}.zarr", FEATURES, COORDS)
    np.save(tmp_path / "Oslo" / "Oslo.zarr" / "tables" / "odd.npy", FEATURES)
    reader = open_features(tmp_path)
    assert sorted(reader.paths) == ["Bergen", "Oslo"]
    assert "2 .zarr stores in" in reader.layout


def with_other_ids(store: Path) -> None:
    write_array(store / "tables/uni_tiles/obs/tile_id", np.arange(N) + 1)


def with_an_id_twice(store: Path) -> None:
    ids = np.array([0, 0, 2, 3, 4, 5])
    write_array(store / "tables/uni_tiles/obs/tile_id", ids)
    write_shapes(store, "tiles", ids, [rectangle(*place, EDGE, EDGE) for place in COORDS])


def with_fewer_tiles(store: Path) -> None:
    write_shapes(store, "tiles", np.arange(4), [rectangle(*place, EDGE, EDGE) for place in COORDS[:4]])


def with_triangles(store: Path) -> None:
    write_shapes(store, "tiles", np.arange(N), [rectangle(*place, EDGE, EDGE)[:-16] for place in COORDS])


def without_shapes(store: Path) -> None:
    (store / "shapes/tiles/shapes.parquet").unlink()


def with_a_sparse_matrix(store: Path) -> None:
    (store / "tables/uni_tiles/X/zarr.json").write_text('{"attributes": {}, "zarr_format": 3, "node_type": "group"}')


def with_whole_numbers(store: Path) -> None:
    write_array(store / "tables/uni_tiles/X", np.ones((N, 4), np.int64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_other_ids, "holds features of other tiles than shapes/tiles has"),
        (with_an_id_twice, "holds features of other tiles than shapes/tiles has"),
        (with_fewer_tiles, "has 6 rows of features and 6 ids, and shapes/tiles has 4 tiles. Tiles were made again"),
        (with_triangles, "holds other shapes than rectangles"),
        (without_shapes, "shapes.parquet cannot be read: No such file"),
        (with_a_sparse_matrix, "'X' is a group of arrays, as a sparse matrix is"),
        (with_whole_numbers, "'X' is int64 of shape"),
    ],
)
def test_rows_that_are_not_surely_of_their_tiles_are_refused(
    change: Callable[[Path], None], message: str, stores: Path
) -> None:
    change(stores / "a.zarr")
    reader = open_features(stores)
    for use in (reader.header, reader.load):
        with pytest.raises(FeatureFileError, match=message):
            use("a")


def test_a_patch_of_zeros_is_a_part_that_was_lost(stores: Path) -> None:
    features = FEATURES.copy()
    features[2] = 0
    write_table(stores / "a.zarr", "uni_tiles", "tiles", features, np.arange(N))
    with pytest.raises(FeatureFileError, match="1 of the 6 rows of 'X' are zero throughout, the first is row 2"):
        open_features(stores).load("a")


def test_without_a_tile_spec_the_size_of_a_patch_comes_from_its_bounds_and_mpp_is_unknown(stores: Path) -> None:
    path = stores / "a.zarr" / "zarr.json"
    told = json.loads(path.read_text())
    del told["attributes"]["tile_spec"]
    path.write_text(json.dumps(told))
    assert open_features(stores).header("a").mpp is None
    assert open_features(stores).header("a").patch_size == 256.0


def test_the_mpp_of_a_slide_that_tells_none_is_not_the_one_that_was_asked_for(stores: Path) -> None:
    path = stores / "a.zarr" / "zarr.json"
    path.write_text(path.read_text().replace('"mpp": 0.25', '"mpp": null'))
    assert open_features(stores).header("a").mpp is None


def test_tiles_that_are_no_squares_of_one_size_have_no_edge(stores: Path) -> None:
    write_shapes(stores / "a.zarr", "tiles", np.arange(N), [rectangle(*place, EDGE, 100) for place in COORDS])
    header = open_features(stores).header("a")
    assert (header.patch_size, header.unit, header.coords_problem) == (None, "level-0 px", "")


def test_a_geometry_that_is_missing_is_refused(stores: Path) -> None:
    path = stores / "a.zarr/shapes/tiles/shapes.parquet"
    table = pq.read_table(path)
    shapes = [None, *table["geometry"].to_pylist()[1:]]
    pq.write_table(table.set_column(2, "geometry", pa.array(shapes, pa.binary())), path)
    with pytest.raises(FeatureFileError, match="other shapes than rectangles"):
        open_features(stores).header("a")


def test_what_is_declared_beside_stores_is_said_of_them(stores: Path) -> None:
    (stores / "features.json").write_text('{"weights_sha256": "ab12"}', encoding="utf-8")
    assert open_features(stores).header("a").weights_sha256 == "ab12"
