"""Configurations are drawn by a rule that keeps no state."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from models_for_tests import Tiny

from milbench.errors import UsageError
from milbench.registry import is_baseline, load_models
from milbench.search_space import Choice, Configuration, Range, SearchSpace
from milbench.trials.arguments import constructor_arguments
from milbench.trials.configurations import block_of, configuration, space_of, uniform
from milbench.trials.recipe import Recipe


def drawn(number: int, *, seed: int = 0, name: str = "tiny", space: SearchSpace | None = None) -> Configuration:
    return configuration(
        number, name, Tiny, space or space_of(name, Tiny, {}), Recipe(), constructor_arguments(Tiny), seed=seed
    )


def test_configuration_0_is_what_the_recipe_says() -> None:
    assert drawn(0) == Configuration(0)


def test_a_configuration_depends_on_model_number_and_seed_alone() -> None:
    forward = [drawn(number) for number in range(8)]
    assert [drawn(number) for number in reversed(range(8))] == forward[::-1]
    assert len({str(each) for each in forward}) == 8
    assert drawn(3, seed=1) != drawn(3)
    assert drawn(3, name="other") != drawn(3)


def test_it_is_the_same_in_another_process_and_for_good() -> None:
    code = "from milbench.trials.configurations import uniform; print(uniform(0, 'amil', 17, 'trainer.lr'))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(printed) == uniform(0, "amil", 17, "trainer.lr") == 0.9523017589978322


def test_a_setting_more_in_the_space_leaves_the_other_draws_as_they_are() -> None:
    more = space_of("tiny", Tiny, {"tiny": SearchSpace({"clip_norm": Range(1.0, 5.0)})})
    with_more = drawn(5, space=more)
    assert {**with_more.trainer, "clip_norm": 0} == {**drawn(5).trainer, "clip_norm": 0}
    assert with_more.model == drawn(5).model


def test_draws_of_many_configurations_fill_the_space_without_order() -> None:
    values = np.array([[uniform(0, "m", n, key) for n in range(2000)] for key in ("trainer.lr", "model.hidden")])
    assert values.mean(axis=1) == pytest.approx([0.5, 0.5], abs=0.02)
    assert abs(np.corrcoef(values)[0, 1]) < 0.06
    assert abs(np.corrcoef(values[0, :-1], values[0, 1:])[0, 1]) < 0.06


def test_what_is_fixed_is_not_drawn() -> None:
    space = space_of("tiny", Tiny, {}).without({"lr": 1e-3}, {"hidden": 4})
    assert set(drawn(2, space=space).trainer) == {"weight_decay"}
    assert set(drawn(2, space=space).model) == {"dropout"}


def test_every_baseline_can_be_built_from_any_of_its_draws() -> None:
    from milbench.models import build

    for name, model in load_models().items():
        if not is_baseline(model):
            continue
        arguments = {**constructor_arguments(model), "hidden": 16, "attention": 8, "landmarks": 4}
        defaults = {key: value for key, value in arguments.items() if key in constructor_arguments(model)}
        for number in range(1, 9):
            space = space_of(name, model, {})
            each = configuration(number, name, model, space, Recipe(), defaults, seed=0)
            assert build(model, 8, 2 if model.info.tasks == "multi" else 1, {**defaults, **each.model}, seed=0)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (SearchSpace({"lrr": Choice(1.0)}), "Did you mean 'lr'"),
        (SearchSpace({"epochs": Choice(4)}), "draws trainer.epochs, which all configurations share"),
        (SearchSpace(model={"hiden": Choice(4)}), "Did you mean 'hidden'"),
    ],
)
def test_a_space_of_what_is_no_setting_is_refused(space: SearchSpace, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        space_of("tiny", Tiny, {"tiny": space})


def test_a_value_that_the_recipe_cannot_take_names_the_configuration() -> None:
    space = space_of("tiny", Tiny, {"tiny": SearchSpace({"lr": Choice(-1.0)})})
    with pytest.raises(UsageError, match=r"search space of 'tiny', configuration 3: trainer\.lr is -1\.0"):
        drawn(3, space=space)


def test_draws_for_all_models_reach_those_that_have_the_argument() -> None:
    everyone = {"*": SearchSpace({"lr": Choice(0.5)}, {"hidden": Choice(3), "experts": Choice(7)})}
    each = drawn(1, space=space_of("tiny", Tiny, everyone))
    assert each.trainer["lr"] == 0.5
    assert each.model["hidden"] == 3
    assert "experts" not in each.model


@pytest.mark.parametrize(
    ("tried", "blocks"),
    [
        (range(8), [0] * 8),
        (range(12), [0] * 8 + [None] * 4),
        (range(16), [0] * 8 + [1] * 8),
        ([0, 5, 17], [None] * 3),
        ([0, *range(16, 24)], [None] + [2] * 8),
    ],
)
def test_a_configuration_has_a_block_if_all_of_the_block_are_tried(
    tried: Sequence[int], blocks: list[int | None]
) -> None:
    assert [block_of(number, tried) for number in tried] == blocks
