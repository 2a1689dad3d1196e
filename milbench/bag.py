"""Bag: the patches of one slide, or of all slides of a patient: the unit that every model and reader speaks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import isfinite

import torch
from torch import Tensor

from milbench.errors import FeatureFileError

LARGEST_VALUE = 1.8e19
"""Squares of larger values are beyond float32: norms, and most losses, would be infinite."""


@dataclass(frozen=True, eq=False, repr=False)
class Bag:
    """One slide, or one patient's slides, as a bag of patch features.

    Attributes
    ----------
    features : Tensor [N, D], float16 or float32, as stored on disk.
    slide_id, patient_id : str. A bag that joins a patient's slides has the patient's id as both.
    coords : Tensor [N, 2] or None. Patch's top-left corner (x, y): integer if in level-0 pixels.
    coords_unit : unit of `coords`, "level-0 px" unless the feature file tells too little to convert.
    patch_size : float or None. Edge of a patch, in the unit of `coords`.
    instance_labels : Tensor [N, T] or None. Truth per patch and task, where it is known.
    coords_problem : why `coords` is None although the feature file has coordinates; empty otherwise.
    slides : the slides that the bag joins, in the order of its patches, each with its rows of `features` and with its own
        coordinates; empty = the bag is one slide.
    """

    features: Tensor
    slide_id: str
    patient_id: str = ""
    coords: Tensor | None = None
    coords_unit: str = "level-0 px"
    patch_size: float | None = None
    instance_labels: Tensor | None = None
    coords_problem: str = ""
    slides: tuple[Bag, ...] = ()

    def __repr__(self) -> str:
        return f"Bag({self.slide_id}: {' × '.join(map(str, self.features.shape))} {self.features.dtype})"

    def __len__(self) -> int:
        return self.features.shape[0]

    @property
    def parts(self) -> list[tuple[Bag, slice]]:
        """Each slide that the bag joins, with its rows of `features`; the bag itself if it is one slide."""
        ends = list(accumulate(map(len, self.slides), initial=0))
        joined = [(slide, slice(*rows)) for slide, rows in zip(self.slides, pairwise(ends), strict=True)]
        return joined or [(self, slice(0, len(self)))]


def check_features(
    features: Tensor, where: str, in_features: int | None = None, *, largest: float | None = None
) -> Tensor:
    """`features` unchanged, if they are a usable bag [N, D].

    Parameters
    ----------
    features : Tensor, expected [N, D] float16/32/64 with N >= 1.
    where : str. File or slide named in the error.
    in_features : int or None. The width that the cohort's other slides have.
    largest : float or None. Their `largest_value`, where it is known.

    Raises
    ------
    FeatureFileError : not two-dimensional, empty, of another width, not finite, or too large to be squared.
    """
    if features.ndim != 2:
        shape = tuple(features.shape)
        raise FeatureFileError(
            f"{where}: features have shape {shape}, expected (patches, width). Re-extract this slide."
        )
    _refuse_sizes(features.shape[0], features.shape[1], where, in_features)
    _refuse_values(features, where, largest_value(features) if largest is None else largest)
    return features


def _refuse_sizes(n_patches: int, width: int, where: str, in_features: int | None) -> None:
    if n_patches == 0:
        raise FeatureFileError(
            f"{where}: the bag is empty (0 patches). Drop the slide from the labels or re-extract it."
        )
    if width == 0:
        raise FeatureFileError(f"{where}: features are 0 wide: each patch is an empty vector. Re-extract this slide.")
    if in_features is not None and width != in_features:
        raise FeatureFileError(
            f"{where}: features are {width} wide, the cohort's other slides are {in_features}. "
            "Use one encoder for the whole cohort."
        )


def _refuse_values(features: Tensor, where: str, largest: float) -> None:
    if not isfinite(largest):
        bad = int((~torch.isfinite(features)).any(dim=1).sum())
        raise FeatureFileError(
            f"{where}: {bad} of {len(features)} patches hold NaN or infinite values. Re-extract this slide."
        )
    if largest > LARGEST_VALUE:
        bad = int((features.abs() > LARGEST_VALUE).any(dim=1).sum())
        raise FeatureFileError(
            f"{where}: {bad} of {len(features)} patches hold values up to {largest:.3g}, whose square is beyond float32. "
            "No encoder gives such values. Re-extract this slide."
        )


def largest_value(values: Tensor) -> float:
    """The largest absolute value; 0 if there is none. If any value is NaN or infinite, so is this.

    One pass without a copy, by the smallest and the largest value, which are NaN if any value is.
    """
    return max(abs(float(end)) for end in torch.aminmax(values)) if values.numel() else 0.0


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite. A sum would not tell: that of good float16 values may be infinite."""
    return isfinite(largest_value(values))
