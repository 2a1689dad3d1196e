"""Layout: where the patches of a bag lie, and which lie next to each other; and bags as models get them.

Only models that declare `needs_coords` get a layout. It is found once for each bag, where the bag is read, and not in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milbench.bag import Bag
from milbench.errors import BagError, DataError
from milbench.patch_size import guessed_size

PARTS = 1024
"""Places are told apart to this part of a patch's edge. As whole numbers of such parts, equal distances are exactly equal."""

FARTHEST = 2.0**20
"""Largest place in patches: squared distances of places, in parts, are still whole numbers of 64 bits. No slide is so wide."""

MORE = 8
"""Places that are looked at beyond those that are wanted, because several may be equally far away."""

GAP = 2.0
"""Distance between two slides of a patient's bag, in multiples of the largest slide's extent: more than any within one."""


class Layout(NamedTuple):
    """Where the N patches of a bag lie.

    Attributes
    ----------
    coords : float32 Tensor [N, 2]. Place (x, y) of each patch, in edges of a patch, from the slide's top-left patch. In
        pixels, one and the same place would be another number for each scanner.
    neighbours : int64 Tensor [N, min(K, N)]. The nearest patches of each one: itself first, then by their distance; of
        equally distant ones the upper first, then the one further left. K is the model's `n_neighbours`.
    """

    coords: Tensor
    neighbours: Tensor


Inputs = tuple[Tensor] | tuple[Tensor, Layout]
"""What a model takes of one bag: its features, and its layout if the model needs it."""


@dataclass(frozen=True, eq=False, slots=True)
class Patches:
    """A bag on its way to a model.

    Attributes
    ----------
    features : Tensor [N, D].
    layout : of the same patches, if a model asks for it; its neighbours are int32, which takes half the memory.
    problem : why there is no layout although one is asked for.
    """

    features: Tensor
    layout: Layout | None = None
    problem: str = ""

    def __len__(self) -> int:
        return len(self.features)

    @property
    def nbytes(self) -> int:
        """Memory of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def given(self) -> Inputs:
        """The features, and the layout if there is one: arguments of a model."""
        return (self.features,) if self.layout is None else (self.features, self.layout)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Features, and the layout's tensors."""
        return (self.features, *(self.layout or ()))

    def each(self, change: Any) -> Patches:
        """The same bag with `change` applied to each tensor."""
        features, *layout = map(change, self.tensors)
        return Patches(features, Layout(*layout) if layout else None, self.problem)

    def rows(self, index: Tensor) -> Patches:
        """Some of the patches, with neighbours among these alone."""
        if self.layout is None:
            return Patches(self.features[index], None, self.problem)
        coords, n_neighbours = self.layout.coords[index], self.layout.neighbours.shape[1]
        found = nearest(coords.double().cpu().numpy(), n_neighbours)
        return Patches(self.features[index], Layout(coords, torch.from_numpy(found).to(coords.device)))


def refuse_misfit(model: str, given: Sequence[Any], in_features: int, n_neighbours: int | None) -> None:
    """Raise `BagError` unless `given` are a bag [N >= 1, in_features], and its layout if the model wants neighbours."""
    shape = tuple(given[0].shape)
    if len(shape) != 2 or shape[1] != in_features:
        raise BagError(f"{model} expects one bag of shape (patches, {in_features}); got {shape}.")
    if shape[0] == 0:
        raise BagError(f"{model} was given an empty bag (0 patches). Drop the slide or re-extract it.")
    if n_neighbours is None:
        return
    if len(given) < 2:
        raise BagError(no_layout(model, n_neighbours))
    wanted = ((shape[0], 2), (shape[0], min(n_neighbours, shape[0])))
    got = (tuple(given[1].coords.shape), tuple(given[1].neighbours.shape))
    if got != wanted:
        raise BagError(
            f"{model} expects coordinates {wanted[0]} and neighbours {wanted[1]} for this bag; got {got[0]} and {got[1]}."
        )


def no_layout(model: str, n_neighbours: int) -> str:
    """What is told where a model gets no layout and needs one."""
    return (
        f"{model} needs the places of the patches too: model(features, layout), with layout_of(bag, {n_neighbours}) of "
        "milbench.layout."
    )


def patches_of(bag: Bag, n_neighbours: int | None) -> Patches:
    """The bag for models that ask for `n_neighbours`; None = without a layout. Raises as `layout_of`."""
    return Patches(bag.features, None if n_neighbours is None else layout_of(bag, n_neighbours))


def layout_of(bag: Bag, n_neighbours: int) -> Layout:
    """Layout of a bag's patches, neighbours as int32. The slides that a patient's bag joins lie side by side, far apart.

    Raises
    ------
    DataError : a slide of the bag has no coordinates that can be used, or one place for all its patches; or they span more
        patches than a slide can hold, because its patch size is wrong.
    """
    parts = [_in_patches(slide) for slide, _ in bag.parts]
    places = _side_by_side(parts)
    if not 0 <= places.min() <= places.max() <= FARTHEST:  # not so if a patch size is negative or NaN
        raise DataError(
            f"slide '{bag.slide_id}' cannot go through a model that needs coordinates: they span {np.ptp(places):,.0f} patches, "
            "more than any slide does. Check its coordinates and its patch size (`patch_size:` in cohort.yaml)."
        )
    return Layout(torch.from_numpy(places.astype(np.float32)), torch.from_numpy(nearest(places, n_neighbours)))


def stacked(inputs: Sequence[Inputs]) -> Inputs:
    """What a model takes of B bags of one size, in tensors [B, ...]."""
    features = torch.stack([each[0] for each in inputs])
    layouts = [each[1] for each in inputs if len(each) == 2]
    return (features, Layout(*map(torch.stack, zip(*layouts, strict=True)))) if layouts else (features,)


def square(n_patches: int, n_neighbours: int) -> Layout:
    """Layout of a made-up bag, row by row on a square, neighbours as int32: what models are tried on."""
    side = isqrt(n_patches - 1) + 1
    cells = np.arange(n_patches)
    places = np.stack([cells % side, cells // side], axis=1).astype(np.float64)
    return Layout(torch.from_numpy(places.astype(np.float32)), torch.from_numpy(nearest(places, n_neighbours)))


def _in_patches(slide: Bag) -> NDArray[np.float64]:
    """Places [N, 2] of a slide's patches in edges of a patch, from its top-left one."""
    if slide.coords is None:
        why = (
            f"its coordinates cannot be used ({slide.coords_problem})"
            if slide.coords_problem
            else "it has no coordinates"
        )
        raise DataError(
            f"slide '{slide.slide_id}' cannot go through a model that needs coordinates: {why}. Extract it again with "
            "coordinates (CLAM's .h5, TRIDENT, STAMP), or leave the slide or the model out."
        )
    corners = slide.coords.cpu().numpy().astype(np.float64)
    if len(corners) > 1 and (corners == corners[0]).all():
        raise DataError(
            f"slide '{slide.slide_id}' cannot go through a model that needs coordinates: all its {len(corners)} patches lie at "
            "one place. Extract it again with coordinates, or leave the slide or the model out."
        )
    size = slide.patch_size or guessed_size(corners)[0]
    places: NDArray[np.float64] = (corners - corners.min(axis=0)) / size
    return places


def _side_by_side(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Places of several slides on one plane, so far apart that every patch is nearer to all of its own slide."""
    if len(parts) == 1:
        return parts[0]
    extent = 1 + max(float(part.max()) for part in parts)
    moved = [part + np.array([GAP * extent * number, 0.0]) for number, part in enumerate(parts)]
    return np.concatenate(moved)


def nearest(places: NDArray[np.float64], k: int) -> NDArray[np.int32]:
    """The min(k, N) nearest patches [N, k] of each patch, in the order that `Layout` states; `places` [N, 2] in patches."""
    n_patches = len(places)
    k = min(k, n_patches)
    if k == 0:
        return np.empty((n_patches, 0), dtype=np.int32)
    marks = np.round(places * PARTS).astype(np.int64)
    # patches at one place share their neighbours, and unlike patches, few places can be equally far away
    spots, spot_of, counts = np.unique(marks[:, ::-1], axis=0, return_inverse=True, return_counts=True)
    spot_of = spot_of.reshape(-1)
    by_spot = _nearest_spots(spots, min(k, len(spots)))
    if len(spots) == n_patches:
        members = np.argsort(spot_of, kind="stable")
        found = members[by_spot][spot_of]
    else:
        found = _expanded(by_spot, np.argsort(spot_of, kind="stable"), counts, k)[spot_of]
    return _itself_first(found).astype(np.int32)


def _nearest_spots(spots: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The k nearest of the places `spots` [M, 2], by distance and then by their order."""
    from scipy.spatial import cKDTree  # half a second, which runs without such models need not wait

    tree, wanted = cKDTree(spots), k + MORE
    found = np.empty((len(spots), k), dtype=np.int64)
    left = np.arange(len(spots))
    while len(left):
        n = min(wanted, len(spots))
        _, near = tree.query(spots[left], k=n)
        near = near.reshape(len(left), n)
        distances = ((spots[near] - spots[left][:, None]) ** 2).sum(axis=-1)  # whole numbers: exact
        order = np.lexsort((near, distances), axis=-1)
        near, distances = (np.take_along_axis(each, order, axis=1) for each in (near, distances))
        found[left] = near[:, :k]
        is_cut = distances[:, -1] == distances[:, k - 1] if n < len(spots) else np.zeros(len(left), dtype=bool)
        left, wanted = left[is_cut], 2 * wanted
    return found


def _expanded(
    by_spot: NDArray[np.int64], members: NDArray[np.int64], counts: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """The k nearest patches [M, k] of each place, from its nearest places; `members` are patches, place by place."""
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rows = []
    for near in by_spot:
        n_needed = int(np.searchsorted(np.cumsum(counts[near]), k)) + 1
        patches = [members[starts[spot] : starts[spot] + counts[spot]] for spot in near[:n_needed]]
        rows.append(np.concatenate(patches)[:k])
    return np.stack(rows)


def _itself_first(found: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same neighbours [N, k] with each patch in front of its own; if it is not among them, the last one leaves."""
    own = np.arange(len(found))[:, None]
    is_own = found == own
    rank = np.where(is_own.any(axis=1), is_own.argmax(axis=1), found.shape[1] - 1)[:, None]
    columns = np.arange(found.shape[1])[None]
    source = np.where(columns <= rank, np.maximum(columns - 1, 0), columns)
    moved = np.take_along_axis(found, source, axis=1)
    moved[:, :1] = own
    return moved
