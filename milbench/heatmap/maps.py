"""Maps: what models see in one slide, as plain arrays that pictures and tables are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from milbench.heatmap.places import Places

Scale = Literal["share", "rank", "softmax"]
SCALES: dict[Scale, str] = {
    "share": "attention over an even share (1/N of N patches), from a tenth to a hundredfold, one scale for all maps; "
    "a map without softmax has its own values and bar",
    "rank": "percentile rank within the slide, 0 = least, 1 = most attended",
    "softmax": "the map's own values: softmax weights, or logits where a model has no softmax",
}


@dataclass(frozen=True, eq=False)
class Map:
    """One value per patch.

    Attributes
    ----------
    model, title : registry name and title of the model.
    name : "attention" for the task's map, else the expert or the alternative.
    kind : what the values are, in words.
    values : float64 [N].
    is_distribution : whether the values are non-negative and sum to 1.
    """

    model: str
    title: str
    name: str
    kind: str
    values: NDArray[np.float64]
    is_distribution: bool = False


@dataclass(frozen=True, eq=False)
class SlideMaps:
    """Everything to draw of one slide for one task.

    Attributes
    ----------
    places : where the patches lie.
    role : side of the fold that the slide is on: train, val or test.
    task : the task, or "subtype = Basal" for the maps of one class.
    label : as one number (`milbench.endpoints.endpoint`), NaN where unknown; `label_text` says it in words.
    truth : bool [N] or None. Patches that carry the task's evidence, where it is known.
    answers : the models' answers by name, such as "p = 0.83" or "risk = -1.20".
    caption : why the slide was chosen; empty for one that was named.
    pixels : [N, height, width] from 0 to 1 or None. The patches themselves, where the cohort's features are pixels.
    """

    slide_id: str
    dataset: str
    task: str
    fold: int
    role: str
    label: float
    label_text: str
    places: Places
    maps: tuple[Map, ...]
    answers: Mapping[str, str]
    truth: NDArray[np.bool_] | None = None
    caption: str = ""
    pixels: NDArray[np.float64] | None = None


def scaled(values: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Values [N] to colour: percentile ranks in [0, 1], ties sharing their mean; multiples of 1/N; or the values themselves."""
    if scale == "softmax":
        return values
    if scale == "share":
        return values * len(values)
    ranks = rankdata(values)  # 1 .. N
    return np.asarray((ranks - 1) / max(len(values) - 1, 1) if np.ptp(values) else np.full(len(values), 0.5))
