"""CLAM's layout: `{slide}.h5` with `features` and `coords`, or `{slide}.pt` with one tensor.

Files lie in the folder itself or in CLAM's `h5_files/` and `pt_files/`. The only module that opens
`.pt` files, and never by unpickling.
"""

from __future__ import annotations

import pickle  # noqa: TID251 - for the name of the error that torch raises, nothing is unpickled
import warnings
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from milbench.bag import check_features
from milbench.errors import FeatureFileError
from milbench.formats import SlideFeatures

PLACES = (("h5_files", ".h5"), ("", ".h5"), ("pt_files", ".pt"), ("", ".pt"))
"""Where features may lie, best first: HDF5 has coordinates and a header that tells its size."""


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class ClamFolder:
    """Reader of one CLAM folder."""

    def __init__(self, paths: dict[str, Path], layout: str) -> None:
        self._paths = paths
        self.layout = layout

    @classmethod
    def recognise(cls, folder: Path) -> ClamFolder | None:
        """The reader, or None if nothing in `folder` looks like CLAM's features."""
        found = [(sub, suffix, _by_slide(folder / sub, suffix)) for sub, suffix in PLACES]
        found = [place for place in found if place[2]]
        if not found:
            return None
        sub, suffix, paths = found[0]
        layout = f"CLAM: {len(paths)} {suffix} files in {folder / sub}"
        if len(found) > 1:
            layout += (
                f" (preferred over {len(found[1][2])} {found[1][1]} files: HDF5 first, CLAM's own subfolders first)"
            )
        return cls(paths, layout)

    def files(self) -> dict[str, Path]:
        """Path by slide id."""
        return self._paths

    def width(self, slide_id: str) -> int:
        """Feature width of one slide."""
        path = self._path(slide_id)
        return _h5_width(path) if path.suffix == ".h5" else check_features(_read_pt(path), str(path)).shape[1]

    def load(self, slide_id: str) -> SlideFeatures:
        """Features [N, D] and coordinates of one slide."""
        path = self._path(slide_id)
        return _read_h5(path) if path.suffix == ".h5" else SlideFeatures(_read_pt(path), None, None)

    def _path(self, slide_id: str) -> Path:
        if slide_id not in self._paths:
            raise FeatureFileError(
                f"slide {slide_id} has no feature file ({self.layout}). Extract it or drop its label."
            )
        return self._paths[slide_id]


def _by_slide(folder: Path, suffix: str) -> dict[str, Path]:
    return {
        path.name.removesuffix(suffix): path
        for path in sorted(folder.glob(f"*{suffix}"))
        if not path.name.startswith(".")
    }


def _read_h5(path: Path) -> SlideFeatures:
    try:
        with h5py.File(path) as file:
            features = _squeezed(torch.from_numpy(_values(_features(path, file))))
            if "coords" not in file:
                return SlideFeatures(features, None, None)
            stored = _dataset(path, file, "coords")
            return SlideFeatures(features, _coordinates(path, _values(stored), len(features)), _patch_size(stored))
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise FeatureFileError(f"{path} is no readable HDF5 file ({error}). Extract this slide again.") from error


def _h5_width(path: Path) -> int:
    try:
        with h5py.File(path) as file:
            return int(_features(path, file).shape[-1])
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise FeatureFileError(f"{path} is no readable HDF5 file ({error}). Extract this slide again.") from error


def _features(path: Path, file: h5py.File) -> h5py.Dataset:
    if "features" not in file:
        what = (
            "CLAM's patch coordinates, not features" if "coords" in file else f"datasets: {', '.join(file) or 'none'}"
        )
        raise FeatureFileError(
            f"{path} has no dataset 'features' ({what}). Point `features:` to the extracted features."
        )
    stored = _dataset(path, file, "features")
    if stored.dtype.kind != "f" or not stored.shape:
        raise FeatureFileError(
            f"{path}: 'features' is {stored.dtype} of shape {stored.shape}; expected float16 or float32 "
            "(patches, width). Extract this slide again."
        )
    return stored


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    stored = file[name]
    if not isinstance(stored, h5py.Dataset):
        raise FeatureFileError(f"{path}: '{name}' is a group of datasets, expected one. Extract this slide again.")
    return stored


def _values(stored: h5py.Dataset) -> np.ndarray:
    """The stored array in this machine's byte order, which torch asks for."""
    return np.asarray(stored[()], dtype=stored.dtype.newbyteorder("="))


def _coordinates(path: Path, stored: np.ndarray, n_patches: int) -> Tensor:
    """Integer coordinates [N, 2]."""
    coords = stored[0] if stored.ndim == 3 and stored.shape[0] == 1 else stored
    if len(coords) != n_patches:
        raise FeatureFileError(f"{path}: {n_patches} patches but {len(coords)} coordinates. Extract this slide again.")
    if coords.ndim != 2 or coords.shape[1] != 2 or not np.array_equal(coords, np.trunc(coords)):
        raise FeatureFileError(
            f"{path}: 'coords' is {coords.dtype} of shape {coords.shape}; expected whole level-0 pixels (patches, 2). "
            "Extract this slide again."
        )
    return torch.from_numpy(coords.astype(np.int64))


def _patch_size(coords: h5py.Dataset) -> float | None:
    """Edge of a patch in level-0 pixels, where the extractor wrote it beside the coordinates."""
    if "patch_size_level0" in coords.attrs:  # TRIDENT
        return float(coords.attrs["patch_size_level0"])
    if "patch_size" in coords.attrs and "downsample" in coords.attrs:  # CLAM counts in pixels of `patch_level`
        return float(coords.attrs["patch_size"]) * float(np.ravel(coords.attrs["downsample"])[0])
    return None


def _read_pt(path: Path) -> Tensor:
    try:
        with warnings.catch_warnings():  # torch muses about odd pickles; the refusal below says it better
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - the one place
    except pickle.UnpicklingError as error:
        raise FeatureFileError(
            f"{path} holds a pickled Python object, which could run any code when opened, and was not opened. "
            "Save a plain tensor: torch.save(features, path)."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FeatureFileError(f"{path} is no readable .pt file ({reason}). Extract this slide again.") from error
    if not isinstance(content, Tensor) or content.dtype not in FLOATS or content.layout != torch.strided:
        kind = (
            f"a {content.layout} {content.dtype} tensor"
            if isinstance(content, Tensor)
            else f"a {type(content).__name__}"
        )
        raise FeatureFileError(f"{path} holds {kind}; expected one float tensor (patches, width), as CLAM writes it.")
    return _squeezed(content.detach())


def _squeezed(features: Tensor) -> Tensor:
    """(1, N, D) as [N, D]: some extractors keep a batch axis."""
    return features[0] if features.ndim == 3 and features.shape[0] == 1 else features
