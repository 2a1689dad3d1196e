"""Weights of slides: each task's scale, and classes that weigh alike on the training side."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from stacks_for_tests import InMemory
from trial_for_tests import TRIAL

from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fitted import FittedEndpoint
from milbench.serving.fold_data import fold_data, side_of, with_balanced_classes
from milbench.splits import make_split
from milbench.trials.plan import Trial
from milbench.trials.recipe import Recipe

NAN = float("nan")
SLIDES = pd.DataFrame(
    {
        "slide_id": [f"s{i}" for i in range(6)],
        "patient_id": [f"p{i}" for i in range(6)],
        "er": [1, 0, 0, 0, NAN, 0],
        "subtype": [0, 0, 0, 2, 2, NAN],
        "hrd": [1.0, 2.0, 3.0, 4.0, NAN, 6.0],
    }
)
ENDPOINTS = (
    FittedEndpoint(constant_loss=0.5),
    FittedEndpoint(Endpoint("multiclass", ("a", "b", "c")), "ce", constant_loss=2.0),
    FittedEndpoint(Endpoint("regression"), "huber", constant_loss=0.25),
)
MIXED = replace(TRIAL, tasks=("er", "subtype", "hrd"), endpoints=ENDPOINTS)
BINARY = replace(TRIAL, tasks=("er",))


def balanced(trial: Trial) -> torch.Tensor:
    """Weights [n, T]."""
    return with_balanced_classes(side_of(SLIDES, [trial]), [trial]).known[0]


def test_every_class_that_occurs_weighs_alike_and_the_mean_weight_is_one() -> None:
    assert balanced(BINARY)[:, 0].tolist() == [2.5, 0.625, 0.625, 0.625, 0, 0.625]  # 5 / (2 n_k)
    by_class = balanced(MIXED)[:, 1] * 2.0
    np.testing.assert_allclose(by_class, [5 / 6, 5 / 6, 5 / 6, 5 / 4, 5 / 4, 0], rtol=1e-6)
    assert (by_class.sum() / 5).item() == 1


def test_tasks_without_classes_keep_their_weights_and_scales_are_multiplied() -> None:
    assert balanced(MIXED)[:, 2].tolist() == [4, 4, 4, 4, 0, 4]
    assert balanced(MIXED)[:, 0].tolist() == [5, 1.25, 1.25, 1.25, 0, 1.25]


def test_a_side_with_one_class_is_left_as_it_is() -> None:
    one = SLIDES.assign(er=1.0)
    side = side_of(one, [BINARY])
    assert torch.equal(with_balanced_classes(side, [BINARY]).known, side.known)


def test_only_the_training_side_is_weighted_and_by_default_not_even_that() -> None:
    slides = pd.DataFrame(
        {
            "slide_id": [f"s{i}" for i in range(40)],
            "patient_id": [f"p{i}" for i in range(40)],
            "er": [0.0] * 30 + [1.0] * 10,
        }
    )
    split = make_split(slides, ("er",), "kfold")

    def weights(recipe: Recipe) -> dict[str, set[float]]:
        trial = replace(BINARY, recipe=recipe, feature_scaling="none")
        sides = fold_data(slides, split, [trial], InMemory(), {}).sides
        return {role: set(side.known.unique().tolist()) for role, side in sides.items()}

    assert weights(Recipe()) == {"train": {1}, "val": {1}, "test": {1}}
    of_balanced = weights(Recipe(class_weights="balanced"))
    assert len(of_balanced["train"]) == 2
    assert of_balanced["val"] == of_balanced["test"] == {1}
