"""Stores of zarr as wsidata 0.12 and tiatoolbox 2.1 write them (format 3), byte by byte, without zarr.

`tests/golden/wsidata_store.zip` is a store that lazyslide wrote; a test holds these to have its arrays and shapes.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write_group(folder: Path, attributes: dict[str, Any] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = {"attributes": attributes or {}, "zarr_format": 3, "node_type": "group"}
    (folder / "zarr.json").write_text(json.dumps(told))


def write_array(folder: Path, values: np.ndarray, chunks: tuple[int, ...] | None = None) -> None:
    """One array; each chunk is a file of its values as they are."""
    chunks = chunks or tuple(max(1, length) for length in values.shape)
    folder.mkdir(parents=True, exist_ok=True)
    endian = {"endian": "little"} if values.dtype.itemsize > 1 else {}
    write_metadata(folder, values.shape, values.dtype, chunks, [{"name": "bytes", "configuration": endian}])
    for place in np.ndindex(*(-(-length // step) for length, step in zip(values.shape, chunks, strict=True))):
        cut = tuple(slice(i * step, (i + 1) * step) for i, step in zip(place, chunks, strict=True))
        full = np.zeros(chunks, values.dtype)
        full[tuple(slice(length) for length in values[cut].shape)] = values[cut]
        chunk = folder.joinpath("c", *map(str, place))
        chunk.parent.mkdir(parents=True, exist_ok=True)
        chunk.write_bytes(full.tobytes())


def write_metadata(
    folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any], chunks: tuple[int, ...], codecs: list[Any]
) -> None:
    told = {
        "shape": shape, "data_type": dtype.name, "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}, "fill_value": 0, "codecs": codecs,
        "attributes": {}, "zarr_format": 3, "node_type": "array", "storage_transformers": [],
    }  # fmt: skip
    (folder / "zarr.json").write_text(json.dumps(told))


def rectangle(left: float, top: float, width: float, height: float) -> bytes:
    """WKB as shapely writes a box: from the top right corner down, and around to it again."""
    right, bottom = left + width, top + height
    corners = [(right, top), (right, bottom), (left, bottom), (left, top), (right, top)]
    return struct.pack("<BIII", 1, 3, 1, 5) + b"".join(struct.pack("<2d", *corner) for corner in corners)


def write_shapes(store: Path, region: str, ids: np.ndarray, shapes: list[bytes]) -> None:
    """Shapes of tiles, in the order of `ids`."""
    write_group(store / "shapes" / region, {"encoding-type": "ngff:shapes"})
    zeros = np.zeros(len(ids), dtype=np.int64)
    columns = {"tile_id": ids, "tissue_id": zeros, "geometry": pa.array(shapes, pa.binary())}
    pq.write_table(pa.table(columns), store / "shapes" / region / "shapes.parquet")


def write_table(store: Path, name: str, region: str, features: np.ndarray, ids: np.ndarray) -> None:
    """A table of features, its rows in the order of `ids`."""
    table = store / "tables" / name
    write_group(
        table, {"encoding-type": "anndata", "region": region, "region_key": "library_id", "instance_key": "tile_id"}
    )
    write_array(table / "X", features)
    write_group(table / "obs", {"column-order": ["tile_id", "library_id"], "_index": "_index"})
    write_array(table / "obs" / "tile_id", ids)


def write_wsidata(
    store: Path, features: np.ndarray, coords: np.ndarray, *, table: str = "uni_tiles", seed: int = 0, edge: int = 256
) -> None:
    """A slide: tiles in no order of rows, the table's rows in another, both told by `tile_id`."""
    draw = np.random.default_rng(seed)
    slide = {"shape": [9000, 9000], "mpp": 0.25, "magnification": None, "level_downsample": [1.0]}
    spec = {"height": 128, "width": 128, "mpp": 0.5, "base_level": 0, "base_downsample": 2.0}
    write_group(store, {"slide_properties": slide, "tile_spec": {"tiles": spec}})
    write_group(store / "shapes")
    write_group(store / "tables")
    of_tiles, of_table = draw.permutation(len(coords)), draw.permutation(len(features))
    write_shapes(store, "tiles", of_tiles, [rectangle(*coords[i], edge, edge) for i in of_tiles])
    write_table(store, table, "tiles", features[of_table], of_table)


def write_tiatoolbox(store: Path, features: np.ndarray, coords: np.ndarray, edge: int = 256) -> None:
    """A slide as the DeepFeatureExtractor leaves it."""
    write_group(store)
    write_array(store / "features", features)
    write_array(store / "coordinates", np.concatenate([coords, coords + edge], axis=1))
