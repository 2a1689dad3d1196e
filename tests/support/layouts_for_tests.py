"""Places for bags that have none: cells of a small grid, in random order."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from milbench.layout import Layout, Patches, nearest
from milbench.models import BagOutput, MILModel


def layout_of_places(places: np.ndarray, k: int) -> Layout:
    """Layout of patches at these places [N, 2], with k neighbours."""
    return Layout(torch.from_numpy(places.astype(np.float32)), torch.from_numpy(nearest(places.astype(float), k)))


@cache
def grid_layout(n: int, k: int, seed: int = 0) -> Layout:
    """Layout of n patches on a grid with gaps."""
    side = int(np.ceil(np.sqrt(1.4 * n)))
    cells = np.random.default_rng([seed, n]).permutation(side * side)[:n]
    return layout_of_places(np.stack([cells % side, cells // side], axis=1), k)


def shuffled(layout: Layout, order: Tensor) -> Layout:
    """Layout of the same patches in another order."""
    return layout_of_places(layout.coords[order].numpy(), layout.neighbours.shape[1])


def inputs(
    model: MILModel, features: Tensor, *, seed: int = 0, order: Tensor | None = None
) -> tuple[Tensor] | tuple[Tensor, Layout]:
    """What the model takes of a bag: its features [N, D], and a layout if it needs one.

    Parameters
    ----------
    order : in which the features are those of the bag; its places follow.
    """
    if not model.needs_coords:
        return (features,)
    layout = grid_layout(features.shape[0], model.n_neighbours, seed)
    return model.inputs(Patches(features, layout if order is None else shuffled(layout, order)))


def answer(model: MILModel, features: Tensor, *, seed: int = 0, order: Tensor | None = None) -> BagOutput:
    """Output of the model for a bag [N, D]; arguments as for `inputs`."""
    return model(*inputs(model, features, seed=seed, order=order))
