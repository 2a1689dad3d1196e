"""Bag: one slide's patches, the unit that every model and reader speaks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from milbench.errors import FeatureFileError


@dataclass(frozen=True, eq=False, repr=False)
class Bag:
    """One slide as a bag of patch features.

    Attributes
    ----------
    features : Tensor [N, D], float16 or float32, as stored on disk.
    slide_id, patient_id : str
    coords : Tensor [N, 2] or None. Patch's top-left corner (x, y): integer if in level-0 pixels.
    coords_unit : unit of `coords`, "level-0 px" unless the feature file tells too little to convert.
    patch_size : float or None. Edge of a patch, in the unit of `coords`.
    instance_labels : Tensor [N, T] or None. Truth per patch and task, where it is known.
    coords_problem : why `coords` is None although the feature file has coordinates; empty otherwise.
    """

    features: Tensor
    slide_id: str
    patient_id: str = ""
    coords: Tensor | None = None
    coords_unit: str = "level-0 px"
    patch_size: float | None = None
    instance_labels: Tensor | None = None
    coords_problem: str = ""

    def __repr__(self) -> str:
        return f"Bag({self.slide_id}: {' × '.join(map(str, self.features.shape))} {self.features.dtype})"

    def __len__(self) -> int:
        return self.features.shape[0]


def check_features(features: Tensor, where: str, in_features: int | None = None) -> Tensor:
    """`features` unchanged, if they are a usable bag [N, D].

    Parameters
    ----------
    features : Tensor, expected [N, D] float16/32/64 with N >= 1.
    where : str. File or slide named in the error.
    in_features : int or None. The width that the cohort's other slides have.

    Raises
    ------
    FeatureFileError : not two-dimensional, empty, of another width, or not finite.
    """
    if features.ndim != 2:
        shape = tuple(features.shape)
        raise FeatureFileError(
            f"{where}: features have shape {shape}, expected (patches, width). Re-extract this slide."
        )
    if features.shape[0] == 0:
        raise FeatureFileError(
            f"{where}: the bag is empty (0 patches). Drop the slide from the labels or re-extract it."
        )
    if in_features is not None and features.shape[1] != in_features:
        raise FeatureFileError(
            f"{where}: features are {features.shape[1]} wide, the cohort's other slides are {in_features}. "
            "Use one encoder for the whole cohort."
        )
    if not all_finite(features):
        bad = int((~torch.isfinite(features)).any(dim=1).sum())
        raise FeatureFileError(
            f"{where}: {bad} of {len(features)} patches hold NaN or infinite values. Re-extract this slide."
        )
    return features


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite.

    One pass without a copy, by the smallest and the largest value, which are NaN if any value is. A sum would do
    too, but the sum of good float16 values may be infinite.
    """
    return values.numel() == 0 or all(bool(torch.isfinite(end)) for end in torch.aminmax(values))
