"""Small learners over bags in memory, in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from layouts_for_tests import grid_layout
from torch import Tensor

from milbench.cohorts.scaling import FeatureScaler
from milbench.layout import Layout, Patches
from milbench.models import MILModel
from milbench.registry import load_models
from milbench.training.activations import ActivationCost
from milbench.training.learner import Learner
from milbench.training.selection import TrialProgress
from milbench.training.side import Side
from milbench.training.step_cost import StepCost
from milbench.training.trainer import predict_all, train
from milbench.trials.recipe import Recipe

CPU = torch.device("cpu")

MOST_NEIGHBOURS = 64


WIDTH, N_SLIDES, N_MEMBERS = 6, 14, 3


SMALL = {"hidden": 16, "attention": 8, "landmarks": 4, "heads": 2, "tower": 16, "experts": 2, "feed_forward": 32}


SLIDES = tuple(f"slide{i}" for i in range(N_SLIDES))


TRAIN, VALIDATION = SLIDES[:9], SLIDES[9:]


OURS = [name for name, cls in load_models().items() if cls.__module__.startswith("milbench_baselines")]


class InMemory:
    """Bags of three sizes, in float64, so that rounding stays far below what a wrong mask or label would do."""

    def __init__(self, device: torch.device = CPU) -> None:
        generator = torch.Generator().manual_seed(3)
        sizes = (9, 9, 13, 9)
        self.bags = {
            slide: torch.randn(sizes[i % 4], WIDTH, generator=generator).double().to(device)
            for i, slide in enumerate(SLIDES)
        }
        self.served: list[str] = []

    def in_order(self, slide_ids: Sequence[str]) -> Iterator[tuple[str, Patches]]:
        for slide in slide_ids:
            self.served.append(slide)
            yield slide, Patches(self.bags[slide], self._layout(slide))

    def _layout(self, slide: str) -> Layout:
        bag = self.bags[slide]
        return Layout(*(each.to(bag.device) for each in grid_layout(len(bag), MOST_NEIGHBOURS, SLIDES.index(slide))))


class AsTheyAre(FeatureScaler):
    def __init__(self) -> None:
        super().__init__("none")

    def __call__(self, features: Tensor) -> Tensor:
        return features


class Shifted(AsTheyAre):
    """Scaler that adds a number to all features."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.by = offset

    def __call__(self, features: Tensor) -> Tensor:
        return features + self.by


def labels(members: Sequence[int], slides: tuple[str, ...], n_tasks: int) -> Side:
    """Random labels, a few unknown; a member's do not depend on which others are asked for."""
    rng = np.random.default_rng(5)
    targets = torch.from_numpy(rng.integers(0, 2, (N_MEMBERS, N_SLIDES, n_tasks)).astype(np.float64))
    known = torch.from_numpy((rng.random((N_MEMBERS, N_SLIDES, n_tasks)) > 0.15).astype(np.float64))
    places = [SLIDES.index(slide) for slide in slides]
    return Side(slides, (targets * known)[list(members)][:, places], known[list(members)][:, places])


def in_float32(side: Side) -> Side:
    return side._replace(targets=side.targets.float(), known=side.known.float())


def model_of(name: str, **more: object) -> MILModel:
    cls = load_models()[name]
    known = cls.__init__.__kwdefaults__ or {}
    torch.manual_seed(11)
    n_tasks = 4 if cls.info.tasks == "multi" else 1
    return cls(WIDTH, n_tasks, **{key: value for key, value in {**SMALL, **more}.items() if key in known}).double()


def learner(
    members: Sequence[int], start: MILModel, recipe: Recipe, *, device: torch.device = CPU, **more: object
) -> Learner:
    n_tasks = start.n_tasks
    return Learner(
        [copy.deepcopy(start) for _ in members], recipe, labels(members, TRAIN, n_tasks),
        labels(members, VALIDATION, n_tasks), seed=7, device=device, scaler=AsTheyAre(), **more,
    )  # fmt: skip


def trained(*learners: Learner, features: InMemory | None = None) -> tuple[Learner, ...]:
    train(learners, SLIDES, features or InMemory(learners[0].device), seed=7)
    return learners


def losses(progress: TrialProgress) -> list[tuple[float, float]]:
    """Training and validation loss of each epoch."""
    return [(row.train_loss, row.val_loss) for row in progress.history]


def probabilities(each: Learner, members: Sequence[int]) -> np.ndarray:
    assert each.error is None, each.error
    side = labels(members, VALIDATION, each.models[0].n_tasks)
    (predictions,) = predict_all([each], [side], side.slide_ids, InMemory(each.device))
    assert predictions is not None
    return predictions.probabilities


RECIPES = {
    "one bag per step": Recipe(lr=0.02, epochs=3),
    "five bags per step": Recipe(lr=0.02, epochs=3, bags_per_step=5),
    "clipped": Recipe(lr=0.02, epochs=2, bags_per_step=2, clip_norm=0.05),
    "lookahead": Recipe(lr=0.02, epochs=3, optimizer="lookahead_radam", decay_vectors=False, select_by="val_loss"),
}


def of_own_rates(recipe: Recipe) -> list[Recipe]:
    """The recipe with learning rate and weight decay of each member's own."""
    own = ((0.02, 0.0), (0.005, 0.3), (0.05, 0.01))
    return [replace(recipe, lr=lr, weight_decay=decay) for lr, decay in own]


def alike(cost: ActivationCost) -> StepCost:
    """Cost of a step that is the same alone and in a stack."""
    return StepCost(cost, cost)
