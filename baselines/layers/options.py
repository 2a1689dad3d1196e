"""Constructor options that take one of a few words."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from milbench.errors import UsageError, unknown_name

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


def refuse_uneven_heads(hidden: int, heads: int) -> None:
    """Raise `UsageError` unless the heads of an attention can share the width `hidden` evenly."""
    if heads < 1 or hidden % heads:
        raise UsageError(f"{heads} heads cannot share a width of {hidden} evenly. Choose hidden as a multiple of heads.")
