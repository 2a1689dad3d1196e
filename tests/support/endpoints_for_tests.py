"""Learners of tasks of any kind over bags in memory, in float64, with labels of their own for each trial."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from stacks_for_tests import CPU, SLIDES, TRAIN, VALIDATION, WIDTH, AsTheyAre
from torch import Tensor, nn

from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.models import BagOutput, MILModel
from milbench.training.learner import Learner
from milbench.training.side import Side
from milbench.trials.recipe import Recipe

BINARY = FittedEndpoint()
CLASSES = FittedEndpoint(Endpoint("multiclass", ("a", "b", "c")), "ce", constant_loss=1.1)
SCORE = FittedEndpoint(Endpoint("regression"), "huber", constant_loss=0.4)
COX = FittedEndpoint(Endpoint("survival"), "cox", constant_loss=1.6)


class TinyWithDropout(MILModel):
    def __init__(self, in_features: int, n_outputs: int, *, dropout: float = 0.3) -> None:
        super().__init__(in_features, n_outputs)
        self.embed = nn.Sequential(nn.Linear(in_features, 5), nn.Tanh(), nn.Dropout(dropout))
        self.head = nn.Linear(5, n_outputs)

    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(self.head(self.embed(features).mean(dim=0)), None, {})


def tiny(*endpoints: FittedEndpoint, dropout: float = 0.3) -> TinyWithDropout:
    torch.manual_seed(11)
    return TinyWithDropout(WIDTH, Outputs(endpoints), dropout=dropout).double()


def random_labels(endpoint: FittedEndpoint, member: int, task: int) -> np.ndarray:
    """One label per slide; some unknown, some times tied."""
    rng = np.random.default_rng([member, task])
    n = len(SLIDES)
    values = {
        "binary": rng.integers(0, 2, n).astype(float),
        "multiclass": rng.integers(0, 3, n).astype(float),
        "regression": rng.normal(size=n),
        "survival": rng.integers(1, 7, n) * rng.choice([-1.0, 1.0], n),
    }[endpoint.kind]
    return np.where(rng.random(n) < 0.15, np.nan, values)


def side(members: Sequence[int], slides: tuple[str, ...], endpoints: Sequence[FittedEndpoint]) -> Side:
    labels = np.stack([np.stack([random_labels(e, m, t) for t, e in enumerate(endpoints)], axis=1) for m in members])
    labels = labels[:, [SLIDES.index(slide) for slide in slides]]
    weights = np.where(np.isnan(labels), 0, [1 / endpoint.constant_loss for endpoint in endpoints])
    return Side(slides, torch.from_numpy(np.nan_to_num(labels)), torch.from_numpy(weights), labels)


def learner_of(
    endpoints: Sequence[FittedEndpoint],
    members: Sequence[int],
    recipe: Recipe,
    *,
    start: MILModel | None = None,
    **more: object,
) -> Learner:
    start = start or tiny(*endpoints)
    return Learner(
        [copy.deepcopy(start) for _ in members], recipe, side(members, TRAIN, endpoints),
        side(members, VALIDATION, endpoints), seed=7, device=CPU, scaler=AsTheyAre(), **more,
    )  # fmt: skip


def efron_by_definition(logits: Tensor, days: Tensor) -> Tensor:
    """Cox loss of one batch, mean over events, time by time as books write it; 0 days where unknown."""
    z, time, event = logits[days != 0], days[days != 0].abs(), days[days != 0] > 0
    total = z.new_zeros(())
    for at in time[event].unique():
        tied = event & (time == at)
        at_risk, of_tied = z[time >= at].exp().sum(), z[tied].exp().sum()
        for earlier in range(int(tied.sum())):
            total = total + (at_risk - earlier / int(tied.sum()) * of_tied).log()
        total = total - z[tied].sum()
    return total / event.sum().clamp(min=1)
