"""Primary metric: the one number that models are ranked by, for every kind of task.

Frames of `milbench.stats` call it `score`, whatever the kind. Files, captions and axes call it by its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from milbench.endpoints.endpoint import Kind


@dataclass(frozen=True)
class PrimaryMetric:
    """What the scores of one kind of tasks are.

    Attributes
    ----------
    name : in headers of files and names of MLflow metrics.
    title : in sentences and on axes.
    chance : what a model gets that knows nothing of the slide.
    worst, best : the ends of its scale; higher is better for every kind.
    level : whether the number that is printed is of slides or of patients.
    ensemble : how the interval of the fold ensemble came about, in one word: the start of its columns in files.
    """

    name: str
    title: str
    chance: float
    worst: float
    best: float = 1.0
    level: Literal["slide", "patient"] = "slide"
    ensemble: str = "ensemble"

    @property
    def columns(self) -> Mapping[str, str]:
        """How files name the columns of frames, of those that have another name there."""
        return {
            "score": self.name,
            "ensemble_score": f"ensemble_{self.name}",
            "ensemble_low": f"{self.ensemble}_low",
            "ensemble_high": f"{self.ensemble}_high",
            "p_ensemble": f"p_{self.ensemble}",
        }

    def as_written(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with the names that its columns have in files."""
        return frame.rename(columns=self.columns)


AUROC = PrimaryMetric("auroc", "AUROC", chance=0.5, worst=0.0, ensemble="delong")
METRICS: Mapping[Kind, PrimaryMetric] = {
    "binary": AUROC,
    "multiclass": PrimaryMetric("macro_auroc", "macro AUROC", chance=0.5, worst=0.0),
    "ordinal": PrimaryMetric("quadratic_kappa", "quadratic kappa", chance=0.0, worst=-1.0),
    "regression": PrimaryMetric("pearson", "Pearson r", chance=0.0, worst=-1.0),
    "survival": PrimaryMetric("c_index", "c-index", chance=0.5, worst=0.0, level="patient"),
}
"""By kind of task."""
