"""CLAM's layout: `{slide}.h5` with `features` and `coords`, or `{slide}.pt` with one tensor.

Files lie in the folder itself or in CLAM's `h5_files/` and `pt_files/`. The only module that opens
`.pt` files, and never by unpickling.
"""

from __future__ import annotations

import pickle  # noqa: S403, TID251 - for the name of the error that torch raises, nothing is unpickled
import warnings
from pathlib import Path

import h5py
import torch
from torch import Tensor

from milbench.errors import FeatureFileError
from milbench.formats import SlideFeatures

PLACES = (("h5_files", ".h5"), ("", ".h5"), ("pt_files", ".pt"), ("", ".pt"))
"""Where features may lie, best first: HDF5 has coordinates and a header that tells its size."""


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
            layout += f" (preferred over {len(found[1][2])} {found[1][1]} files: HDF5 first, CLAM's own subfolders first)"
        return cls(paths, layout)

    def files(self) -> dict[str, Path]:
        """Path by slide id."""
        return self._paths

    def width(self, slide_id: str) -> int:
        """Feature width of one slide."""
        path = self._path(slide_id)
        return _h5_width(path) if path.suffix == ".h5" else self.load(slide_id).features.shape[-1]

    def load(self, slide_id: str) -> SlideFeatures:
        """Features [N, D] and coordinates of one slide."""
        path = self._path(slide_id)
        return _read_h5(path) if path.suffix == ".h5" else SlideFeatures(_squeezed(_read_pt(path)), None)

    def _path(self, slide_id: str) -> Path:
        if slide_id not in self._paths:
            raise FeatureFileError(f"slide {slide_id} has no feature file ({self.layout}). Extract it or drop its label.")
        return self._paths[slide_id]


def _by_slide(folder: Path, suffix: str) -> dict[str, Path]:
    return {path.name.removesuffix(suffix): path for path in sorted(folder.glob(f"*{suffix}")) if not path.name.startswith(".")}


def _read_h5(path: Path) -> SlideFeatures:
    try:
        with h5py.File(path) as file:
            features = torch.from_numpy(_dataset(path, file)[()])
            coords = torch.from_numpy(file["coords"][()]) if "coords" in file else None
    except (OSError, KeyError, TypeError) as error:
        raise FeatureFileError(f"{path} is no readable HDF5 file ({error}). Extract this slide again.") from error
    features = _squeezed(features)
    if coords is not None and features.ndim == 2 and len(coords) != len(features):
        raise FeatureFileError(f"{path}: {len(features)} patches but {len(coords)} coordinates. Extract this slide again.")
    return SlideFeatures(features, coords)


def _h5_width(path: Path) -> int:
    try:
        with h5py.File(path) as file:
            return int(_dataset(path, file).shape[-1])
    except (OSError, KeyError, TypeError, IndexError) as error:
        raise FeatureFileError(f"{path} is no readable HDF5 file ({error}). Extract this slide again.") from error


def _dataset(path: Path, file: h5py.File) -> h5py.Dataset:
    if "features" not in file:
        what = "CLAM's patch coordinates, not features" if "coords" in file else f"datasets: {', '.join(file) or 'none'}"
        raise FeatureFileError(f"{path} has no dataset 'features' ({what}). Point `features:` to the extracted features.")
    return file["features"]


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
    if not isinstance(content, Tensor) or not content.is_floating_point():
        kind = f"a {content.dtype} tensor" if isinstance(content, Tensor) else f"a {type(content).__name__}"
        raise FeatureFileError(f"{path} holds {kind}; expected one float tensor (patches, width), as CLAM writes it.")
    return content


def _squeezed(features: Tensor) -> Tensor:
    """(1, N, D) as [N, D]: some extractors keep a batch axis."""
    return features[0] if features.ndim == 3 and features.shape[0] == 1 else features
