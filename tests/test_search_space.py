"""What a search draws, as data."""

from __future__ import annotations

import numpy as np
import pytest

from milbench.errors import UsageError
from milbench.search_space import Choice, Range, SearchSpace, Times, TimesOneOf, space_from

UNIFORMS = np.linspace(0, 1, 1001)[:-1]


def test_a_choice_gives_each_value_as_often_as_any_other() -> None:
    drawn = [Choice("a", "b", None, True).at(u, "unused") for u in UNIFORMS]
    assert [drawn.count(value) for value in ("a", "b", None, True)] == [250, 250, 250, 250]


def test_a_log_range_is_uniform_in_the_logarithm_and_stays_inside() -> None:
    drawn = np.array([Range(1e-5, 1e-1, log=True).at(u, None) for u in UNIFORMS], dtype=float)
    assert drawn.min() == 1e-5
    assert drawn.max() <= 1e-1
    counts, _ = np.histogram(np.log10(drawn), bins=[-5, -4, -3, -2, -1])
    assert counts.tolist() == pytest.approx([250] * 4, abs=3)


def test_a_range_of_whole_numbers_reaches_both_ends_equally() -> None:
    drawn = [Range(2, 5, whole=True).at(u, None) for u in UNIFORMS]
    assert {value: drawn.count(value) for value in set(drawn)} == dict.fromkeys((2, 3, 4, 5), 250)


def test_times_multiplies_the_default_and_whole_defaults_stay_whole() -> None:
    assert Times(0.1, 10).at(0.5, 0.002) == 0.002
    assert [TimesOneOf(0.5, 1, 2).at(u, 64) for u in (0, 0.4, 0.99)] == [32, 64, 128]
    assert type(TimesOneOf(0.5).at(0, 5)) is int
    assert TimesOneOf(0.1).at(0, 3) == 1, "a width of 0 is none"
    with pytest.raises(UsageError, match="multiplies a default of None"):
        Times(0.1, 10).at(0.5, None)


def test_numbers_have_three_digits_so_that_files_hold_what_was_used() -> None:
    assert all(float(f"{value:.3g}") == value for value in (Range(0.1, 0.7).at(u, None) for u in UNIFORMS))


def test_yaml_describes_every_kind_of_draw() -> None:
    space = space_from(
        {
            "trainer": {"lr": {"log_range": [1e-5, 1e-3]}, "weight_decay": {"times": [0.1, 10]}},
            "model": {
                "hidden": {"one_of": [128, 256]},
                "experts": {"range": [2, 6]},
                "attention": {"times_one_of": [1, 2]},
            },
        },
        "tuning.space.m4",
    )
    assert space == SearchSpace(
        {"lr": Range(1e-5, 1e-3, log=True), "weight_decay": Times(0.1, 10)},
        {"hidden": Choice(128, 256), "experts": Range(2, 6, whole=True), "attention": TimesOneOf(1.0, 2.0)},
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (3, "tuning.space.m4 is 3; expected sections trainer and model"),
        ({"trainers": {}}, "Did you mean 'trainer'"),
        ({"trainer": ["lr"]}, "expected settings, such as lr"),
        ({"trainer": {"lr": [1e-5, 1e-3]}}, "tuning.space.m4.trainer.lr is .* expected one of one_of, range"),
        ({"trainer": {"lr": {"logrange": [1, 2]}}}, "Did you mean 'log_range'"),
        ({"trainer": {"lr": {"log_range": [1, 2, 3]}}}, "has 3 numbers; expected the lowest and the highest"),
        ({"trainer": {"lr": {"log_range": [0, 1]}}}, "trainer.lr: a range .* above 0"),
        ({"trainer": {"lr": {"range": [2, 1]}}}, "goes from 2 to 1"),
        ({"trainer": {"lr": {"range": ["1e-5", "1e-3"]}}}, "YAML wants a point in powers of ten"),
        ({"trainer": {"lr": {"range": [float("nan"), 1]}}}, "must be finite"),
        ({"model": {"hidden": {"one_of": []}}}, "has no values"),
        ({"model": {"hidden": {"one_of": 3}}}, "expected a list of values"),
        ({"model": {"hidden": {"times_one_of": [0]}}}, "all above 0"),
    ],
)
def test_odd_spaces_are_refused_by_name(values: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        space_from(values, "tuning.space.m4")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"model": {"k": (1, 2)}}, r"draws model.k from \(1, 2\); expected Choice, Range, Times or TimesOneOf"),
        ({"trainer": {"lr": "x"}}, "draws trainer.lr from 'x'"),
        ({"model": 3}, "has model=3; expected draws by setting"),
    ],
)
def test_a_space_of_something_else_than_draws_is_refused_where_it_is_made(
    parts: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        SearchSpace(**parts)  # type: ignore[arg-type]
