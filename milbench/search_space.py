"""Search space: which settings of a model are drawn when it is tuned, and from which values. Data, declared beside the model.

::

    @register_model("mine", ..., search_space=SearchSpace(
        trainer={"lr": Times(1 / 30, 30)},                # log-uniform, around the rate that the recipe has
        model={"dropout": Choice(0.0, 0.25, 0.5)},        # arguments of the constructor
    ))

A draw is a function of one uniform number, so a configuration depends on nothing but the number that it is made from
(`milbench.trials.configurations`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, isfinite, log
from types import MappingProxyType
from typing import Any

from milbench.errors import UsageError, unknown_name

Plain = float | int | str | bool | None

DIGITS = 3
"""Significant digits of a number that is drawn: it stands in files and tables as it was used."""


@dataclass(frozen=True, init=False)
class Choice:
    """One of these values, each as likely as any other."""

    values: tuple[Plain, ...]

    def __init__(self, *values: Plain) -> None:
        object.__setattr__(self, "values", values)
        if not values:
            raise UsageError("a choice of a search space has no values. Name at least one.")

    def at(self, uniform: float, default: Any) -> Plain:
        """The value that `uniform`, in [0, 1), stands for; the setting's default does not matter."""
        return self.values[int(uniform * len(self.values))]

    def __str__(self) -> str:
        return "one of " + ", ".join(map(_text, self.values))


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`.

    Attributes
    ----------
    log : log-uniform instead of uniform.
    whole : a whole number; `high` is included.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        _refuse_odd_bounds(self.low, self.high, above_zero=self.log)

    def at(self, uniform: float, default: Any) -> Plain:
        """The number that `uniform`, in [0, 1), stands for; the setting's default does not matter."""
        high = self.high + 1 if self.whole else self.high
        number = _log_uniform(uniform, self.low, high) if self.log else self.low + uniform * (high - self.low)
        return min(int(number), int(self.high)) if self.whole else _rounded(number)

    def __str__(self) -> str:
        return f"{_text(self.low)} to {_text(self.high)}{', log-uniform' if self.log else ''}"


@dataclass(frozen=True)
class Times:
    """The setting's default times a factor from `low` to `high`, log-uniform.

    So one space serves cohorts of any size, whose own recipes differ by orders of magnitude.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _refuse_odd_bounds(self.low, self.high, above_zero=True)

    def at(self, uniform: float, default: Any) -> Plain:
        """The number that `uniform`, in [0, 1), stands for."""
        return _rounded(_number(default) * _log_uniform(uniform, self.low, self.high))

    def __str__(self) -> str:
        return f"default x {_text(self.low)} to {_text(self.high)}, log-uniform"


@dataclass(frozen=True, init=False)
class TimesOneOf:
    """The setting's default times one of these factors; a whole default stays whole."""

    factors: tuple[float, ...]

    def __init__(self, *factors: float) -> None:
        object.__setattr__(self, "factors", factors)
        if not factors or not all(isfinite(factor) and factor > 0 for factor in factors):
            raise UsageError(f"factors of a search space are {factors}. Name at least one, all above 0.")

    def at(self, uniform: float, default: Any) -> Plain:
        """The number that `uniform`, in [0, 1), stands for."""
        product = _number(default) * self.factors[int(uniform * len(self.factors))]
        return max(1, round(product)) if type(default) is int else _rounded(product)

    def __str__(self) -> str:
        return "default x " + ", ".join(map(_text, self.factors))


Draw = Choice | Range | Times | TimesOneOf

NOTHING: Mapping[str, Draw] = MappingProxyType({})


@dataclass(frozen=True)
class SearchSpace:
    """What is drawn for one model.

    Attributes
    ----------
    trainer : draws by setting of the recipe (`trainer.*`).
    model : draws by argument of the constructor.
    """

    trainer: Mapping[str, Draw] = field(default_factory=dict)
    model: Mapping[str, Draw] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in ("trainer", "model"):
            _refuse_what_is_no_draw(part, getattr(self, part))

    def __len__(self) -> int:
        return len(self.trainer) + len(self.model)

    def without(self, trainer: Mapping[str, Any], model: Mapping[str, Any]) -> SearchSpace:
        """The space without settings that somebody has fixed."""
        return SearchSpace(
            {key: draw for key, draw in self.trainer.items() if key not in trainer},
            {key: draw for key, draw in self.model.items() if key not in model},
        )

    def narrowed(self, by: SearchSpace) -> SearchSpace:
        """The space with the draws of `by` in place of its own."""
        return SearchSpace({**self.trainer, **by.trainer}, {**self.model, **by.model})

    def rows(self) -> list[tuple[str, str]]:
        """Name and draw of each setting, in words."""
        return [
            (f"{part}.{key}", str(draw)) for part in ("trainer", "model") for key, draw in getattr(self, part).items()
        ]


def _refuse_what_is_no_draw(part: str, draws: Any) -> None:
    if not isinstance(draws, Mapping):
        raise UsageError(
            f"a search space has {part}={draws!r}; expected draws by setting, such as {{'lr': Times(1 / 30, 30)}}."
        )
    for key, draw in draws.items():
        if not isinstance(draw, Draw):
            raise UsageError(
                f"a search space draws {part}.{key} from {draw!r}; expected Choice, Range, Times or TimesOneOf of "
                "milbench.search_space."
            )


KINDS_OF_DRAWS = ("one_of", "range", "log_range", "times", "times_one_of")


@dataclass(frozen=True)
class Configuration:
    """Settings that were drawn together.

    Attributes
    ----------
    number : 0 = nothing is drawn.
    trainer, model : what differs from the defaults, by setting of the recipe and by argument.
    """

    number: int
    trainer: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        drawn = {**self.trainer, **self.model}
        return ", ".join(f"{key} {_text(value)}" for key, value in drawn.items()) or "the recipe's own"

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"configuration": self.number, "trainer": dict(self.trainer), "model": dict(self.model)}


def space_from(values: Any, where: str) -> SearchSpace:
    """The space that a section of a YAML file describes.

    ::

        trainer: {lr: {log_range: [1.0e-5, 1.0e-3]}}
        model: {hidden: {one_of: [128, 256]}, experts: {range: [2, 6]}}

    Parameters
    ----------
    where : name of the section, for messages.

    Raises
    ------
    UsageError : another form, or bounds that make no sense.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} is {values!r}; expected sections trainer and model.")
    for part, draws in values.items():
        if part not in ("trainer", "model"):
            raise unknown_name(f"section in {where}", str(part), ("trainer", "model"))
        if not isinstance(draws, Mapping):
            raise UsageError(
                f"{where}.{part} is {draws!r}; expected settings, such as lr: {{log_range: [1.0e-5, 1.0e-3]}}."
            )
    return SearchSpace(*(
        {str(key): draw_from(draw, f"{where}.{part}.{key}") for key, draw in values.get(part, {}).items()}
        for part in ("trainer", "model")
    ))  # fmt: skip


def draw_from(value: Any, where: str) -> Draw:
    """The draw that YAML describes; raises `UsageError` for another form."""
    if not isinstance(value, Mapping) or len(value) != 1:
        raise UsageError(
            f"{where} is {value!r}; expected one of {', '.join(KINDS_OF_DRAWS)}, such as {{log_range: [1.0e-5, 1.0e-3]}}."
        )
    ((kind, given),) = value.items()
    if kind not in KINDS_OF_DRAWS:
        raise unknown_name(f"kind of draw in {where}", str(kind), KINDS_OF_DRAWS)
    if not isinstance(given, (list, tuple)) or any(isinstance(one, (Mapping, list)) for one in given):
        raise UsageError(f"{where}.{kind} is {given!r}; expected a list of values.")
    if kind == "one_of":
        return _located(where, Choice, *given)
    if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in given):
        raise UsageError(f"{where}.{kind} is {given!r}; expected numbers. YAML wants a point in powers of ten: 1.0e-5.")
    if kind == "times_one_of":
        return _located(where, TimesOneOf, *map(float, given))
    if len(given) != 2:
        raise UsageError(f"{where}.{kind} has {len(given)} numbers; expected the lowest and the highest.")
    if kind == "times":
        return _located(where, Times, *map(float, given))
    whole = all(type(one) is int for one in given)
    low, high = given if whole else map(float, given)
    return _located(where, Range, low, high, kind == "log_range", whole)


def _located(where: str, make: type[Any], *arguments: Any) -> Draw:
    try:
        return make(*arguments)  # type: ignore[no-any-return]
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _refuse_odd_bounds(low: float, high: float, *, above_zero: bool) -> None:
    if not (isfinite(low) and isfinite(high)) or low > high or (above_zero and low <= 0):
        above = " and above 0" if above_zero else ""
        raise UsageError(
            f"a range of a search space goes from {low} to {high}. Its bounds must be finite, in order{above}."
        )


def _log_uniform(uniform: float, low: float, high: float) -> float:
    return exp(log(low) + uniform * (log(high) - log(low)))


def _number(default: Any) -> float:
    if isinstance(default, bool) or not isinstance(default, (int, float)):
        raise UsageError(
            f"a search space multiplies a default of {default!r}, which is no number. Name values instead."
        )
    return float(default)


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _text(value: Plain) -> str:
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    return "null" if value is None else str(value)


USUAL_TRAINER: Mapping[str, Draw] = MappingProxyType({"lr": Times(1 / 30, 30.0), "weight_decay": Times(0.01, 100.0)})
"""What is drawn of every model's recipe, plug-ins too: the two settings that decide most, around the recipe's own."""

USUAL_MODEL: Mapping[str, Draw] = MappingProxyType(
    {"hidden": TimesOneOf(0.5, 1.0, 2.0), "dropout": Choice(0.0, 0.1, 0.25, 0.5)}
)
"""What is drawn of constructors that have these arguments, if a model declares no space."""
