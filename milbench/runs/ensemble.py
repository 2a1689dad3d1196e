"""Ensemble: all trainings of one model on one task, which answer a bag together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from milbench.endpoints.fitted import FittedEndpoint
from milbench.heatmap.trained import TrainedModel
from milbench.layout import Layout
from milbench.stats.ensemble import on_one_scale

STANDARDISED_RISK = "standardised risk"
"""A risk in standard deviations above the mean of a trial's training patients: risks themselves have no common scale."""


class Ensemble:
    """Trained models of all folds and seeds, averaged as the report averages them (`milbench.stats.ensemble`).

    Attributes
    ----------
    models : in the order of the plan.
    task : that is answered.
    names : of the answers.
    """

    def __init__(self, models: Sequence[TrainedModel], task: str) -> None:
        self.models, self.task = tuple(models), task
        self.names = _names(self._endpoint)

    @property
    def _endpoint(self) -> FittedEndpoint:
        return self.models[0].endpoint_of[self.task]

    def __repr__(self) -> str:
        return f"Ensemble({len(self.models)} trainings of {self.models[0].name} on {self.task})"

    def answers(self, features: Tensor, layout: Layout | None = None) -> NDArray[np.float64]:
        """Mean answer [A] to the task, of one bag [N, D] as stored on disk, with its layout if models need it; named by `names`.

        binary: the probability of the mean logit. Multiclass: the mean probability of each class. Ordinal and regression:
        the mean expected grade or value. Survival: the mean risk, standardised by each trial's training patients.
        """
        return self.answers_of([model.answers(features, layout) for model in self.models])

    def answers_of(self, answers: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Mean answer [A] to the task, of what each model answers [R] to one bag."""
        pairs = zip(self.models, answers, strict=True)
        scores = np.stack([said[[asked.task == self.task for asked in model.asked]] for model, said in pairs])  # [M, A]
        risks = np.array([_training_risk(model, self.task) for model in self.models])  # [M, 2]
        mean = on_one_scale(self._endpoint.kind, scores, risks).mean(axis=0)
        return np.asarray(expit(mean) if self._endpoint.kind == "binary" else mean)


def _names(endpoint: FittedEndpoint) -> tuple[str, ...]:
    if endpoint.kind == "survival":
        return (STANDARDISED_RISK,)
    return endpoint.answers if endpoint.kind == "multiclass" else endpoint.answers[:1]


def _training_risk(model: TrainedModel, task: str) -> tuple[float, float]:
    """Mean and standard deviation of the training patients' risks; NaN except for survival."""
    risks = model.training_risk.get(task, {})
    return risks.get("mean", float("nan")), risks.get("sd", float("nan"))
