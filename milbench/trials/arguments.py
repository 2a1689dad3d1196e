"""Arguments: what a model's constructor may be given, and whether a value can be meant."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from milbench.errors import UsageError
from milbench.models import MILModel
from milbench.registry import is_baseline

LARGEST = 1_000_000
"""Of a whole number that a baseline takes, such as a width. A layer of more would not fit into any memory."""

IN_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}


def constructor_arguments(model: type[MILModel]) -> dict[str, Any]:
    """The model's keyword-only constructor arguments with their defaults."""
    parameters = inspect.signature(model.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def refuse_odd_arguments(model: type[MILModel], name: str, values: Mapping[str, Any]) -> None:
    """Refuse a word for a number, and numbers that no baseline can be built with.

    A plug-in's own numbers are its own business: its constructor is tried before anything trains.

    Raises
    ------
    UsageError : the first odd value, with the default.
    """
    defaults, hints = constructor_arguments(model), _hints(model)
    for argument, value in values.items():
        default = defaults[argument]
        kinds = _kinds(hints.get(argument), default)
        if kinds and not _fits(value, kinds):
            words = " or ".join(IN_WORDS[kind] for kind in kinds)
            raise UsageError(f"model.{name}.{argument} is {value!r}; expected {words}, like its default {default!r}.")
        least = 1 if type(default) is int and default > 0 else 0
        if is_baseline(model) and type(value) is int and not least <= value <= LARGEST:
            raise UsageError(
                f"model.{name}.{argument} is {value}; expected a number from {least} to {LARGEST:,}, like its default {default!r}."
            )


def _hints(model: type[MILModel]) -> dict[str, Any]:
    try:
        return get_type_hints(model.__init__)
    except Exception:  # noqa: BLE001 - an annotation of others may name what is not there
        return {}


def _kinds(hint: Any, default: Any) -> tuple[type, ...]:
    """Plain types that the argument may have; empty if they cannot be told."""
    if get_origin(hint) in (Union, UnionType):
        kinds = get_args(hint)
    elif get_origin(hint) is Literal:
        kinds = tuple(dict.fromkeys(type(value) for value in get_args(hint)))
    else:
        kinds = (hint,) if hint is not None else (type(default),)
    return kinds if all(kind in IN_WORDS for kind in kinds) and set(kinds) != {NoneType} else ()


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    return type(value) in kinds or (type(value) is int and float in kinds)
