"""wsidata (0.12) and lazyslide (0.13): `{slide}.zarr`, a SpatialData store; one of its tables holds a slide's features.

::

    {slide}.zarr/tables/{encoder}_{tiles}    X [N, D], obs/tile_id [N]; the table's attributes name `region` and `instance_key`
    {slide}.zarr/shapes/{tiles}/shapes.parquet    tile_id [N], and a rectangle per tile in level-0 pixels, as WKB
    {slide}.zarr    attributes: `slide_properties` (mpp of level 0), `tile_spec` (level-0 pixels per pixel of a tile)

A slide's path is that of its table, so that a table which another encoder adds to the store changes nothing. Rectangles
begin at their top right corner; their bounds tell a tile's place. lazyslide writes each piece of tissue column by column.
Here tiles come in rows from the top, since models that lay patches out ask for neighbours. If tiles were made again, a
table keeps features of the former ones, so table and shapes must have the same tiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from milbench.errors import FeatureFileError
from milbench.formats import PIXELS, TABLE_MARK, SlideFeatures, SlideHeader
from milbench.formats.opening import failing_clearly, listed
from milbench.formats.shapes import bag_shape, fitting, tensor
from milbench.formats.zarr_store import attributes, feature_array, feature_values, files_in, opened, stored_array

NAME = "wsidata"
TABLES, SHAPES, PARQUET, FEATURES = "tables", "shapes", "shapes.parquet", "X"
RECTANGLE = np.dtype([("head", "V13"), ("corners", "<f8", (5, 2))])
"""A polygon in WKB: byte order, kind and numbers of rings and of corners, then the corners, the first one twice."""

HEAD = bytes.fromhex("01030000000100000005000000")
"""Of a polygon of one ring of five corners, in little-endian order."""


class Tiles(NamedTuple):
    """Rectangles [N, 4] of tiles (left, top, right, bottom) in level-0 pixels, float64, and the tiles' ids [N]."""

    ids: np.ndarray
    bounds: np.ndarray


class Bag(NamedTuple):
    """What one open table holds: its array of features, and which tile each of its rows is of.

    Attributes
    ----------
    features : array [N, D], its values left on disk.
    bounds : [N, 4], by row of the table.
    """

    features: Any
    bounds: np.ndarray


def recognises(store: Path) -> bool:
    """Whether a store has wsidata's folders."""
    return (store / TABLES).is_dir() and (store / SHAPES).is_dir()


def tables_of(store: Path) -> tuple[str, ...]:
    """Names of the tables of one store that hold features of its tiles."""
    inside = sorted((store / TABLES).glob("*")) if (store / TABLES).is_dir() else []
    return tuple(table.name for table in inside if (table / FEATURES).is_dir() and _told(table)[0])


def table_in(store: Path, table: str) -> Path:
    """Where a table lies in a store."""
    return store / TABLES / table


def chosen_table(folder: Path, stores: Iterable[Path], named: str) -> str:
    """The table that is read: the one that was named, else the one that there is.

    Raises
    ------
    FeatureFileError : no store has that table, or several tables are to be chosen from.
    """
    found = Counter(table for store in stores for table in _tables_if_readable(store))
    there = ", ".join(f"{table} ({n})" for table, n in sorted(found.items()))
    if named and named not in found:
        raise FeatureFileError(
            f"no store in {folder} has the table '{named}'. Tables and their stores: {there or 'none'}."
        )
    if not found:
        raise FeatureFileError(
            f"the stores in {folder} hold no table of features of tiles. Extract features with lazyslide."
        )
    if len(found) > 1 and not named:
        raise FeatureFileError(
            f"the stores in {folder} hold several tables: {there}. Name one behind the folder, such as "
            f"{folder}{TABLE_MARK}{min(found)}."
        )
    return named or next(iter(found))


def _tables_if_readable(store: Path) -> tuple[str, ...]:
    """Whoever reads a store that is damaged names it."""
    try:
        return tables_of(store)
    except FeatureFileError:
        return ()


def is_table(path: Path) -> bool:
    """Whether a folder is a table of a store."""
    return path.parent.name == TABLES and recognises(_store(path))


def sources(table: Path) -> tuple[Path, ...]:
    """All files that a slide's features and places come from: its table's, and the rectangles of its tiles."""
    region, _ = _told(table)
    return (*files_in(table), *files_in(_store(table) / SHAPES / region)) if region else files_in(table)


def read(path: Path) -> SlideFeatures:
    """Features [N, D] and level-0 places of the tiles of one table, in rows from the top."""
    _refuse_missing_table(path)
    with opened(path) as group:
        bag = _bag(path, group)
        features, places = feature_values(path, bag.features, FEATURES), bag.bounds
    in_rows = np.lexsort((places[:, 0], places[:, 1]))
    coords = fitting(places[in_rows, :2], len(places), PIXELS)
    return SlideFeatures(
        tensor(features[in_rows]),
        coords.coords,
        _edge(places),
        coords_problem=coords.problem,
    )


def head(path: Path) -> SlideHeader:
    """Sizes of one table; of its store, only ids and places of tiles are read."""
    _refuse_missing_table(path)
    with opened(path) as group:
        bag = _bag(path, group)
        n_patches, width = bag_shape(path, bag.features.shape)
        problem = fitting(bag.bounds[:, :2], n_patches, PIXELS).problem
        dtype = str(bag.features.dtype)
    region, _ = _told(path)
    return SlideHeader(
        n_patches, width, dtype, PIXELS, _edge(bag.bounds), path.name.removesuffix(f"_{region}"), None, problem,
        mpp=_mpp(_store(path), region),
    )  # fmt: skip


def _store(table: Path) -> Path:
    return table.parent.parent


def _refuse_missing_table(path: Path) -> None:
    store = _store(path)
    if store.is_dir() and not path.exists():
        raise FeatureFileError(
            f"{store} has no table '{path.name}' (it holds {listed(tables_of(store))}). Extract its features, or drop its label."
        )


def _told(table: Path) -> tuple[str, str]:
    """Which shapes the rows of a table are of, and the name of their ids; empty if it does not say."""
    told = attributes(table)
    region, key = (str(told.get(name, "")) for name in ("region", "instance_key"))
    return (region, key) if region == Path(region).name and key.isidentifier() else ("", "")


def _bag(path: Path, group: Any) -> Bag:
    """Features and places of an open table.

    Raises
    ------
    FeatureFileError : no table, or its rows are not of the tiles that the store has now.
    """
    region, key = _told(path)
    if not region:
        raise FeatureFileError(f"{path} does not say which tiles its rows are of. Extract this slide again.")
    features = feature_array(path, group, FEATURES)
    n_patches, _ = bag_shape(path, features.shape)
    tiles = _tiles(_store(path) / SHAPES / region / PARQUET, key)
    ids = stored_array(path, group, f"obs/{key}")[...]
    if not n_patches == len(ids) == len(tiles.ids):
        raise FeatureFileError(
            f"{path} has {n_patches} rows of features and {len(ids)} ids, and shapes/{region} has {len(tiles.ids)} tiles. "
            "Tiles were made again after the features: extract this slide again."
        )
    return Bag(features, tiles.bounds[_matched(path, ids, tiles.ids, region)])


def _matched(path: Path, ids: np.ndarray, of_tiles: np.ndarray, region: str) -> np.ndarray:
    """Row of the tiles [N] for each row of the table: each tile stands once in both."""
    by_id, tiles_by_id = np.argsort(ids, kind="stable"), np.argsort(of_tiles, kind="stable")
    in_order = of_tiles[tiles_by_id]
    if not np.array_equal(ids[by_id], in_order) or (in_order[1:] == in_order[:-1]).any():
        raise FeatureFileError(
            f"{path} holds features of other tiles than shapes/{region} has. Tiles were made again after the features: "
            "extract this slide again."
        )
    rows = np.empty(len(ids), dtype=np.int64)
    rows[by_id] = tiles_by_id
    return rows


def _tiles(parquet: Path, key: str) -> Tiles:
    """Ids and bounds of all tiles of a store.

    Raises
    ------
    FeatureFileError : unreadable, or shapes that are no rectangles.
    """
    from pyarrow.parquet import read_table

    with failing_clearly(parquet, "table of shapes", "Extract this slide again."):
        stored = read_table(parquet, columns=[key, "geometry"])
        ids, shapes = stored[key].to_numpy(), stored["geometry"].to_pylist()
    if ids.dtype.kind not in "iu" or any(shape is None or len(shape) != RECTANGLE.itemsize for shape in shapes):
        raise FeatureFileError(
            f"{parquet} holds other shapes than rectangles with a number each. Extract this slide again."
        )
    corners = np.frombuffer(b"".join(shapes), RECTANGLE)
    if (corners["head"] != np.void(HEAD)).any():
        raise FeatureFileError(f"{parquet} holds other shapes than rectangles. Extract this slide again.")
    places = corners["corners"].reshape(-1, 5, 2)
    return Tiles(ids, np.concatenate([places.min(axis=1), places.max(axis=1)], axis=1))


def _edge(bounds: np.ndarray) -> float | None:
    """Edge of a tile in level-0 pixels; None if tiles are no squares of one size."""
    edges = np.unique(bounds[:, 2:] - bounds[:, :2])
    return float(edges[0]) if len(edges) == 1 and edges[0] > 0 else None


def _mpp(store: Path, region: str) -> float | None:
    """Micrometres per pixel of the tiles as the encoder saw them; None if the slide's, or the tiles' scale, is not told.

    `tile_spec` has an mpp too: what was asked for, also where the slide tells none.
    """
    told = attributes(store)
    slide = _number(told.get("slide_properties"), "mpp")
    spec = told.get("tile_spec")
    scale = _number(spec.get(region) if isinstance(spec, dict) else None, "base_downsample")
    return slide * scale if slide and scale else None


def _number(told: Any, name: str) -> float | None:
    found = told.get(name) if isinstance(told, dict) else None
    if not isinstance(found, (int, float)) or isinstance(found, bool):
        return None
    return float(found) if isfinite(found) and found > 0 else None
