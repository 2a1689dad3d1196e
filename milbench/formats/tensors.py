"""`.pt` files: a tensor (CLAM, slideflow), a NumPy array (TRIDENT) or a dict; the only module that opens them.

Never by unpickling: `torch.load(weights_only=True)` builds tensors and plain containers, and here also the few
NumPy types that an array consists of.
"""

from __future__ import annotations

import pickle  # noqa: TID251 - for the name of the error that torch raises, nothing is unpickled
import re
import warnings
import zipfile
from argparse import Namespace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from milbench.errors import DataError, FeatureFileError
from milbench.formats import PIXELS, UNKNOWN, SlideFeatures, SlideHeader
from milbench.formats.lock import lock_free_after_fork
from milbench.formats.mapped_tensor import located, mapped
from milbench.formats.opening import failing_clearly, listed, mistaken, unreadable
from milbench.formats.page_cache import fetch
from milbench.formats.pickled_array import array_of
from milbench.formats.shapes import FLOATS, as_bag, bag_shape, fitting, misfit, tensor
from milbench.formats.unchanged import of_content, once_per_content, remember, remembered

KEYS = ("features", "feats")


def _no_bytes() -> bytes:
    """The content of an empty array. Its pickle calls `bytes` with no argument; with any it would be refused."""
    return b""


_RECONSTRUCT = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
ARRAY_TYPES: list[Any] = [
    _RECONSTRUCT,
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),  # as NumPy 1 called it
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64")),
    (_no_bytes, "builtins.bytes"),
]
"""All that an array of numbers needs, and nothing that runs code; an array of objects is refused by its dtype."""

ODD_PICKLE = "Detected pickle protocol"
"""torch muses about odd pickles; the refusal says it better. `catch_warnings` would not do, since what it restores
at its end is the whole process's, and a thread reads ahead of the training."""
PICKLE, LARGE_PICKLE = "/data.pkl", 100_000
"""Which part of a file is its pickle, and bytes from which on numbers are in it, and not in parts of their own."""
NOT_ALLOWED = re.compile(r"GLOBAL (\S+) was not an allowed")
"""How torch's error names the object that it would not make."""
_LOADING = lock_free_after_fork()
"""Held while `ARRAY_TYPES` or others are allowed: the list is the process's, and the first thread to end would empty it."""


class PtContent(NamedTuple):
    """What a `.pt` file holds: `kind` is "tensor", "array" or "dict"; `coords_problem` says why its coordinates are no tensor."""

    features: Tensor
    coords: Tensor | None
    kind: str
    coords_problem: str = ""


def read(path: Path) -> SlideFeatures:
    """Features [N, D] of one file, and coordinates if it is a dict that has them."""
    fetch(path)
    content = open_pt(path)
    features = as_bag(path, content.features.detach().resolve_neg())
    if content.coords is None:
        return SlideFeatures(
            features, unit=UNKNOWN if content.coords_problem else PIXELS, coords_problem=content.coords_problem
        )
    places = fitting(content.coords, len(features), UNKNOWN)
    return SlideFeatures(features, places.coords, unit=UNKNOWN, coords_problem=places.problem)


@once_per_content
def head(path: Path) -> SlideHeader:
    """Sizes of one file, whose numbers are not read."""
    content = open_pt(path)
    n_patches, width = bag_shape(path, content.features.shape)
    header = SlideHeader(n_patches, width, str(content.features.dtype).removeprefix("torch."))
    if content.coords is None:
        return header._replace(unit=UNKNOWN if content.coords_problem else "", coords_problem=content.coords_problem)
    kind = str(content.coords.dtype).removeprefix("torch.")
    return header._replace(unit=UNKNOWN, coords_problem=misfit(content.coords.shape, kind, n_patches))


def open_pt(path: Path) -> PtContent:
    """The float tensor that `path` holds, as it is or below a known key; mapped into memory, a tensor is read where it is used.

    Raises
    ------
    FeatureFileError : unreadable, a pickled object, or something else than floats.
    """
    with failing_clearly(path, ".pt file", "Extract this slide again."):
        as_it_is = of_content(path, ".pt file")
        if (places := remembered(as_it_is)) is not None:
            features, coords, kind = places
            return PtContent(mapped(path, features), None if coords is None else mapped(path, coords), kind)
    content = _read_pt(path)
    _note_places(path, as_it_is, content)
    return content


def _read_pt(path: Path) -> PtContent:
    content = _load(path)
    if isinstance(content, dict):
        key = next((key for key in KEYS if key in content), None)
        if key is None:
            raise FeatureFileError(
                f"{path} holds a dict without 'features' or 'feats' (it holds {listed(content)}). "
                "Save the patches' vectors (patches, width) under one of these keys."
            )
        features, coords = _floats(path, content[key]), content.get("coords")
        try:
            return PtContent(features, None if coords is None else _plain(path, coords), "dict")
        except FeatureFileError as error:
            return PtContent(features, None, "dict", str(error))
    return PtContent(_floats(path, content), None, "array" if isinstance(content, np.ndarray) else "tensor")


def _note_places(path: Path, as_it_is: tuple[object, ...], content: PtContent) -> None:
    """Note where the numbers lie, if they are mapped."""
    if content.kind == "array" or content.coords_problem or not _is_mappable(path):
        return
    features = located(path, content.features)
    coords = None if content.coords is None else located(path, content.coords)
    if features is None or (coords is None and content.coords is not None):
        return
    remember(as_it_is, (features, coords, content.kind))


def open_list(path: Path) -> list[Tensor]:
    """The float tensors of a file that holds a list of them, alike in shape and dtype.

    Raises
    ------
    FeatureFileError : unreadable, a pickled object, or something else than such a list.
    """
    content = _load(path)
    if not isinstance(content, list) or not all(isinstance(part, Tensor) for part in content):
        raise FeatureFileError(
            f"{path} holds a {type(content).__name__}; expected a list of one float tensor per patch. Extract this slide again."
        )
    if not all(map(_is_plain, content)) or len({(part.dtype, part.shape) for part in content}) > 1:
        raise FeatureFileError(
            f"{path} holds tensors that are no floats of one shape and dtype. Extract this slide again."
        )
    if content:
        _refuse_cut_numbers(path, content[0])
    return content


def _load(path: Path) -> Any:
    with failing_clearly(path, ".pt file", "Extract this slide again."):
        try:
            mapped = _is_mappable(path)
            array = _pickled_array(path) if mapped else None
            if array is not None:
                return array
            with _LOADING, torch.serialization.safe_globals(ARRAY_TYPES):
                warnings.filterwarnings("ignore", ODD_PICKLE, UserWarning)
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)  # noqa: TID251 - the one place
        except pickle.UnpicklingError as error:
            raise FeatureFileError(_pickled(path)) from error


def open_weights(path: Path) -> Any:
    """What a file of a network's weights (`.pt`, `.pth`, `.bin`) holds: tensors in plain containers, on the CPU.

    Raises
    ------
    DataError : unreadable, or it holds more than tensors, plain containers, plain values and the words of a command.
    """
    try:
        with failing_clearly(path, "file of weights (.pt, .pth, .bin)", "Download it again."):
            return _weights(path)
    except FeatureFileError as error:
        raise DataError(str(error)) from error


def _weights(path: Path) -> Any:
    try:
        # training scripts save the words of their command beside the weights; such a Namespace runs nothing
        with _LOADING, torch.serialization.safe_globals([Namespace]):
            warnings.filterwarnings("ignore", ODD_PICKLE, UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_mappable(path))  # noqa: TID251 - the one place
    except pickle.UnpicklingError as error:
        kind = NOT_ALLOWED.search(str(error))
        if kind is None:
            raise DataError(unreadable(path, "file of weights (.pt, .pth, .bin)", "", "Download it again.")) from error
        raise DataError(
            f"{path} holds a Python object ({kind[1]}), which could run any code when opened, and was not opened. If you "
            "trust the file, open it with torch yourself and save its dict of tensors alone: "
            "safetensors.torch.save_file(state_dict, 'weights.safetensors')."
        ) from error


def _pickled(path: Path) -> str:
    """What to say of a file that torch would have to run: a pickle, or something else under this name."""
    if mistaken(path)[0]:
        return unreadable(path, ".pt file", "", "")
    return (
        f"{path} holds a pickled Python object, which could run any code when opened, and was not opened. "
        "Save a plain tensor: torch.save(features, path)."
    )


def _is_mappable(path: Path) -> bool:
    """Whether the bytes of a `.pt` file are those of its numbers.

    A file of torch's format before 2020 is no archive, and one that another tool compressed holds no numbers as they are:
    mapped, its compressed bytes would be taken for numbers.
    """
    return _is_zip(path) and all(how == zipfile.ZIP_STORED for _, how, _ in _parts(path))


def _refuse_cut_numbers(path: Path, features: Tensor) -> None:
    """FeatureFileError if none of the parts of a `.pt` file is as long as what it declares: the next part would be read on."""
    if features.is_meta or not _is_zip(path):
        return
    with failing_clearly(path, ".pt file", "Extract this slide again."):
        lengths = {length for _, _, length in _parts(path)}
    if features.untyped_storage().nbytes() not in lengths:
        raise FeatureFileError(
            f"{path} declares {features.untyped_storage().nbytes():,} bytes of numbers, and none of its parts is so long. "
            "Extract this slide again."
        )


def _parts(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, compression and length of each part of an archive."""
    facts = path.stat()
    return _parts_of(path, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


@lru_cache(maxsize=10_000)
def _parts_of(path: Path, *_as_it_is: int) -> tuple[tuple[str, int, int], ...]:
    with zipfile.ZipFile(path) as archive:
        return tuple((entry.filename, entry.compress_type, entry.file_size) for entry in archive.infolist())


def _pickled_array(path: Path) -> np.ndarray | None:
    """The array of a file whose pickle holds its numbers, as TRIDENT writes it; None = ask torch."""
    names = [name for name, how, length in _parts(path) if length > LARGE_PICKLE and name.endswith(PICKLE)]
    if len(names) != 1:
        return None
    with zipfile.ZipFile(path) as archive:
        return array_of(memoryview(archive.read(names[0])))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _floats(path: Path, content: Any) -> Tensor:
    features = _as_tensor(path, content)
    if features.dtype not in FLOATS or features.layout != torch.strided or features.is_nested or features.ndim == 0:
        kind = "nested" if features.is_nested else f"{features.layout} {features.dtype}"
        raise FeatureFileError(
            f"{path} holds a {kind} tensor; expected one float tensor (patches, width), as CLAM writes it."
        )
    stored = 0 if features.is_meta else features.untyped_storage().nbytes()
    if stored < features.numel() * features.element_size():
        raise FeatureFileError(
            f"{path} declares {features.numel():,} numbers, but holds {stored // features.element_size():,} only. "
            "Save the whole tensor: torch.save(features.contiguous().cpu(), path)."
        )
    if not isinstance(content, np.ndarray):  # an array's numbers are a part of the pickle itself
        _refuse_cut_numbers(path, features)
    return features


def _plain(path: Path, content: Any) -> Tensor:
    """Coordinates as a tensor of numbers that are there."""
    coords = _as_tensor(path, content)
    if (
        coords.is_nested
        or coords.layout != torch.strided
        or coords.is_meta
        or coords.is_quantized
        or _is_expanded(coords)
    ):
        raise FeatureFileError(f"{path}: 'coords' is no plain tensor of numbers. Save a tensor (patches, 2).")
    return coords.detach().resolve_neg().resolve_conj()


def _is_plain(values: Tensor) -> bool:
    """Whether a tensor holds all the floats that it declares."""
    is_stored = values.layout == torch.strided and not values.is_nested and not values.is_meta
    return is_stored and values.dtype in FLOATS and not _is_expanded(values)


def _is_expanded(values: Tensor) -> bool:
    """Whether more numbers are declared than are held."""
    return values.untyped_storage().nbytes() < values.numel() * values.element_size()


def _as_tensor(path: Path, content: Any) -> Tensor:
    if isinstance(content, np.ndarray) and content.dtype.kind in "fiu":
        return tensor(content)
    if isinstance(content, Tensor):
        return content
    several = isinstance(content, (list, tuple)) and bool(content) and all(isinstance(part, Tensor) for part in content)
    what = f"{type(content).__name__} of {len(content)} tensors" if several else type(content).__name__
    mend = " Save them as one: torch.save(torch.stack(list(features)), path)." if several else ""
    raise FeatureFileError(
        f"{path} holds a {what}; expected one float tensor (patches, width), as CLAM writes it.{mend}"
    )
