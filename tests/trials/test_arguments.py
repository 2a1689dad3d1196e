"""A word is no number, and a number no word; numbers that a baseline can have are its own."""

from typing import Literal

import pytest
from models_for_tests import Tiny

from milbench.errors import UsageError
from milbench.registry import load_models
from milbench.trials.arguments import refuse_odd_arguments


class Open(Tiny):
    """Takes arguments of many kinds."""

    def __init__(
        self, in_features: int, n_tasks: int, *, share: float = 0.5, most: int | None = None, on: bool = True,
        kind: Literal["a", "b"] = "a", sizes: tuple[int, ...] = (1,), anything=None,
    ) -> None:  # fmt: skip
        super().__init__(in_features, n_tasks)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("share", 1), ("share", 0.25), ("most", None), ("most", -1), ("on", False), ("kind", "b"), ("sizes", [1, 2]), ("anything", "x")],
)  # fmt: skip
def test_values_of_the_declared_kind_pass(argument: str, value: object) -> None:
    refuse_odd_arguments(Open, "open", {argument: value})


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("share", "half", "expected a number, like its default 0.5"),
        ("share", True, "expected a number"),
        ("most", 0.5, "expected a whole number or null, like its default None"),
        ("on", 1, "expected true or false"),
        ("kind", 3, "expected text"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_name(argument: str, value: object, said: str) -> None:
    with pytest.raises(UsageError, match=rf"model\.open\.{argument} is .*{said}"):
        refuse_odd_arguments(Open, "open", {argument: value})


@pytest.mark.parametrize("argument", ["hidden", "attention", "experts", "tower"])
def test_a_width_of_a_baseline_is_at_least_one(argument: str) -> None:
    model = load_models()["m4"]
    refuse_odd_arguments(model, "m4", {argument: 1})
    with pytest.raises(UsageError, match=rf"model\.m4\.{argument} is 0; expected a number from 1"):
        refuse_odd_arguments(model, "m4", {argument: 0})


def test_a_plug_in_may_give_zero_a_meaning_of_its_own() -> None:
    refuse_odd_arguments(Tiny, "tiny", {"hidden": 0})
