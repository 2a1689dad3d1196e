"""Constructor options that take one of a few words."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from milbench.errors import unknown_name

Word = TypeVar("Word", bound=str)


def one_of(known: Any, **option: Word) -> Word:
    """Value of the one keyword, checked against the `Literal` type `known`: ``one_of(Crop, crop=crop)``.

    Raises
    ------
    UsageError : the value is not in `known`; the message lists what is.
    """
    ((name, value),) = option.items()
    if value not in get_args(known):
        raise unknown_name(name, str(value), get_args(known))
    return value
