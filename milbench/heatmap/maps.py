"""Maps: what models see in one slide, as plain arrays that pictures and tables are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    is_distribution : whether the values are non-negative and sum to 1; those of one of a patient's slides sum to its share.
    of_patient : [M] values of all slides of the patient, if a bag joins several and the map is of one of them.
    rows : those of the slide among them.
    """

    model: str
    title: str
    name: str
    kind: str
    values: NDArray[np.float64]
    is_distribution: bool = False
    of_patient: NDArray[np.float64] | None = None
    rows: slice | None = None

    def of_slide(self, rows: slice) -> Map:
        """The map of one slide of a patient, cut out of the map of the bag that joins them."""
        return replace(self, values=self.values[rows], of_patient=self.values, rows=rows)

    def scaled(self, scale: Scale) -> NDArray[np.float64]:
        """Values [N] to colour: shares and ranks count all patches of the bag, so slides of a patient have one scale."""
        if self.of_patient is None or self.rows is None:
            return scaled(self.values, scale)
        return scaled(self.of_patient, scale)[self.rows]


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
    patient : whose slides the models looked at together, if a bag is a patient; empty if a bag is a slide.
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
    patient: str = ""


def scaled(values: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Values [N] to colour: percentile ranks in [0, 1], ties sharing their mean; multiples of 1/N; or the values themselves."""
    if scale == "softmax":
        return values
    if scale == "share":
        return values * len(values)
    ranks = rankdata(values)  # 1 .. N
    return np.asarray((ranks - 1) / max(len(values) - 1, 1) if np.ptp(values) else np.full(len(values), 0.5))
