"""Models that break the contract: they fail alone, and nobody learns from what they left behind."""

from __future__ import annotations

import pytest
import torch
from models_for_tests import Tiny
from stacks_for_tests import RECIPES, WIDTH, InMemory, learner, model_of, probabilities, trained
from torch import Tensor, nn

from milbench.errors import DataError, MilbenchError
from milbench.layout import Patches
from milbench.models import BagOutput
from milbench.training.bag_guard import BagGuard

RECIPE = RECIPES["one bag per step"]


class Centres(Tiny):
    """Takes the mean out of the bag that it is given, and not of a copy."""

    from_call = 0

    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__(in_features, n_tasks)
        self.calls = 0

    def forward(self, features: Tensor) -> BagOutput:
        self.calls += 1
        if self.calls > self.from_call:
            features -= features.mean(0)
        return super().forward(features)


class CentresAndRaises(Centres):
    def forward(self, features: Tensor) -> BagOutput:
        super().forward(features)
        raise ValueError("after the harm was done")


class CentresLater(Centres):
    from_call = 3


class Normalises(Tiny):
    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__(in_features, n_tasks)
        self.embed = nn.Sequential(nn.BatchNorm1d(in_features), self.embed)


@pytest.mark.parametrize("recipe", [RECIPE, RECIPES["five bags per step"]], ids=["one bag", "five bags"])
def test_a_model_that_writes_into_its_bag_fails_alone(recipe: object) -> None:
    start = model_of("amil")
    features, untouched = InMemory(), InMemory().bags
    (alone,) = trained(learner([0], start, recipe))  # type: ignore[arg-type]
    writer, beside = trained(
        learner([0], Centres(WIDTH, 1).double(), recipe), learner([0], start, recipe), features=features  # type: ignore[arg-type]
    )  # fmt: skip
    assert isinstance(writer.error, MilbenchError)
    assert "Centres writes into its bag" in str(writer.error)
    assert all(torch.equal(features.bags[slide], bag) for slide, bag in untouched.items())
    assert (probabilities(beside, [0]) == probabilities(alone, [0])).all()


def test_a_model_that_writes_and_then_raises_leaves_the_bag_as_it_was() -> None:
    features, untouched = InMemory(), InMemory().bags
    (each,) = trained(learner([0], CentresAndRaises(WIDTH, 1).double(), RECIPE), features=features)
    assert isinstance(each.error, MilbenchError)
    assert all(torch.equal(features.bags[slide], bag) for slide, bag in untouched.items())


def test_a_model_that_writes_only_later_stops_the_pass() -> None:
    with pytest.raises(DataError, match="CentresLater writes into its bag"):
        trained(learner([0], CentresLater(WIDTH, 1).double(), RECIPE))


def test_a_model_that_writes_only_when_it_is_asked_fails_too() -> None:
    bags = [Patches(torch.arange(6.0).reshape(2, 3))]
    features = bags[0].features
    before = features.clone()
    guard = BagGuard("It")
    with pytest.raises(MilbenchError, match="It writes into its bag"), guard.lent(bags):
        features[0] = 0
    assert torch.equal(features, before)
    with guard.lent(bags):
        features.sum()
    assert guard.is_trusted
    with pytest.raises(DataError, match="Nothing that was trained together with it is kept"), guard.lent(bags):
        features += 1


def test_a_model_that_keeps_state_between_bags_is_refused_by_name() -> None:
    (each,) = trained(learner([0], Normalises(WIDTH, 1).double(), RECIPE))
    assert isinstance(each.error, MilbenchError)
    assert "Normalises changes its buffer 'embed.0.num_batches_tracked'" in str(each.error)
