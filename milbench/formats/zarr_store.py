"""zarr store: a folder that stands for one slide. What all layouts in it share: opening, checking and reading arrays.

Metadata that a writer consolidated may be older than the arrays, so each array's own is read. zarr reads a chunk that is
not there as zeros, which is refused. Some codecs run code when they are read: only codecs of plain bytes are let through.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from milbench.errors import FeatureFileError, UsageError
from milbench.formats.opening import failing_clearly, listed
from milbench.formats.shapes import bag_shape, is_float, kind_of
from milbench.special_files import refuse_special

SUFFIX = ".zarr"
METADATA = ("zarr.json", ".zattrs")
"""Where attributes stand: in format 3 below a key of their own, in format 2 alone."""

MOST_BYTES = 64_000_000
"""Of one piece of metadata. A store of 1,000 tables has 10 million."""

MOST_COMPRESSED = 2000
"""Bytes per stored byte that features never exceed."""

CODECS = (
    "blosc", "bytes", "bz2", "crc32c", "delta", "gzip", "lz4", "lzma", "shuffle", "sharding_indexed", "transpose",
    "vlen-utf8", "zlib", "zstd",
)  # fmt: skip
"""All that writers of numbers use. Others may unpickle."""


def refuse_missing_zarr() -> None:
    """UsageError if the extra that reads stores is not installed."""
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"stores of zarr need zarr, which is not installed ({error}). Install it with: pip install 'milbench[zarr]'."
        ) from error


def files_in(folder: Path) -> tuple[Path, ...]:
    """All files below a folder, in the order of their names, links followed.

    Raises
    ------
    FeatureFileError : one of them is a pipe or a device.
    """
    names = [Path(place) / file for place, _, files in os.walk(folder, followlinks=True) for file in files]
    for path in names:
        refuse_special(path, FeatureFileError)
    return tuple(sorted(names))


def attributes(folder: Path) -> dict[str, Any]:
    """Attributes of a group or an array; empty where there are none. Raises `FeatureFileError` if they cannot be read."""
    path = next((folder / name for name in METADATA if (folder / name).is_file()), None)
    if path is None:
        return {}
    with failing_clearly(path, "metadata of zarr", "Extract this slide again."):
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        told = json.loads(path.read_text(encoding="utf-8"))
        found = told.get("attributes", {}) if path.name == METADATA[0] else told
        return dict(found)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The open group; anything that zarr dislikes about it becomes a `FeatureFileError`."""
    refuse_missing_zarr()
    import zarr

    with failing_clearly(path, "store of zarr", "Extract this slide again.", folder=True):
        files_in(path)
        yield zarr.open_group(str(path), mode="r", use_consolidated=False)


def stored_array(path: Path, group: Any, name: str) -> Any:
    """The array `name` of an open group, its values left on disk.

    Raises
    ------
    FeatureFileError : it is missing, a group, needs a codec that may run code, or declares more than is stored.
    """
    import zarr

    if name not in group:
        raise FeatureFileError(f"{path} has no array '{name}'. Extract this slide again.")
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise FeatureFileError(
            f"{path}: '{name}' is a group of arrays, as a sparse matrix is; expected one array. Store it as a dense array."
        )
    if odd := sorted(_codecs(array.metadata.to_dict()) - set(CODECS)):
        raise FeatureFileError(
            f"{path}: '{name}' is written with the codec {listed(odd)} and was not read, since some codecs run code. "
            "Write it again with zstd."
        )
    _refuse_unwritten(path, array, name)
    return array


def _codecs(told: Any) -> set[str]:
    """Names of codecs anywhere in an array's metadata: format 3 calls them `name`, format 2 `id`; one may hold others."""
    if isinstance(told, (list, tuple)):
        return set().union(*map(_codecs, told)) if told else set()
    if not isinstance(told, dict):
        return set()
    inner = [told[key] for key in ("codecs", "index_codecs", "filters", "compressor", "configuration") if key in told]
    is_codec = "codecs" not in told and "zarr_format" not in told
    own = {str(told[key]).removeprefix("numcodecs.") for key in ("name", "id") if is_codec and key in told}
    return own.union(*map(_codecs, inner))


def _refuse_unwritten(path: Path, array: Any, name: str) -> None:
    """A few bytes can declare any number of values, for which memory would be set aside before they are read."""
    stored = sum(file.stat().st_size for file in files_in(path / name))
    if array.nbytes > stored * MOST_COMPRESSED:
        raise FeatureFileError(
            f"{path}: '{name}' declares {array.shape} values, which {stored:,} bytes cannot hold. Extract this slide again."
        )


def refuse_lost_chunks(path: Path, array: Any, name: str) -> None:
    """FeatureFileError if a part of an array is not there: zarr reads zeros in its place."""
    there = array.nchunks_initialized
    if there < array.nchunks:
        raise FeatureFileError(
            f"{path}: {there} of the {array.nchunks} chunks of '{name}' are there, and zarr would read zeros in place of the "
            "others. Copy the store again, or extract this slide again."
        )


def feature_array(path: Path, group: Any, name: str) -> Any:
    """The array `name` of floats, all of whose chunks are there; raises as `stored_array`."""
    array = stored_array(path, group, name)
    if not is_float(np.dtype(array.dtype)) or not array.shape:
        raise FeatureFileError(
            f"{path}: '{name}' is {kind_of(np.dtype(array.dtype))} of shape {array.shape}; expected float16 or float32 "
            "(patches, width). Extract this slide again."
        )
    refuse_lost_chunks(path, array, name)
    return array


def feature_values(path: Path, array: Any, name: str) -> np.ndarray:
    """Features [N, D] of `feature_array`, read.

    Raises
    ------
    FeatureFileError : a patch is zero throughout: its part of the store was lost, or never filled.
    """
    features = np.asarray(array[...])
    features = features.reshape(bag_shape(path, features.shape))
    zero = np.flatnonzero(~features.any(axis=1))
    if len(zero):
        raise FeatureFileError(
            f"{path}: {len(zero)} of the {len(features)} rows of '{name}' are zero throughout, the first is row {zero[0]}. "
            "No encoder gives such patches: a part of the store was lost. Extract this slide again."
        )
    return features
