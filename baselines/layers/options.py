"""Constructor options that are a word out of a few."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from milbench.errors import unknown_name

Word = TypeVar("Word", bound=str)


def one_of(known: Any, **option: Word) -> Word:
    """The value of the one keyword, if the `Literal` type `known` has it: ``one_of(Crop, crop=crop)``.

    Raises
    ------
    UsageError : it has not; the message lists what it has.
    """
    ((name, value),) = option.items()
    if value not in get_args(known):
        raise unknown_name(name, str(value), get_args(known))
    return value
