"""Shape: what a value read from a file of a run must look like. A value that does not is named with its place in the file.

A shape is a function of a value and its place. It returns nothing, and raises `ValueError` where the value does not fit.
Keys that a shape does not list may hold anything plain, since a newer milbench may have written them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from milbench.names import LONGEST_FOLDER, is_folder_name

Shape = Callable[[Any, str], None]

DEEPEST = 40
"""Lists and mappings inside each other, beyond which no file of ours goes."""

LARGEST = 1e18
"""Above any time, count or number of bytes that a run can have."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


def _mismatch(value: Any, where: str, expected: str) -> ValueError:
    shown = _short.repr(value).encode("ascii", "backslashreplace").decode()
    return ValueError(f"{where} is {shown}; expected {expected}")


def _inside(where: str, key: object) -> str:
    return f"{where}.{ascii(key)[1:-1][:60]}" if isinstance(key, str) else f"{where}[{key}]"


def anything(value: Any, where: str, depth: int = 0) -> None:
    """Plain values: text, finite numbers, true, false and none, in lists and in mappings with text for keys."""
    if depth > DEEPEST:
        raise ValueError(f"{where} holds more than {DEEPEST} lists and mappings inside each other")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            text(key, f"a key of {where}")
            anything(inner, _inside(where, key), depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            anything(inner, _inside(where, index), depth + 1)
    elif isinstance(value, str):
        text(value, where)
    elif isinstance(value, float):
        if not isfinite(value):
            raise _mismatch(value, where, "a finite number")
    elif not (value is None or isinstance(value, (bool, int))):
        raise _mismatch(value, where, "text, a number, true, false, a list or a mapping")


def text(value: Any, where: str) -> None:
    """Text that can be written: no half of a surrogate pair, no NUL."""
    if not isinstance(value, str):
        raise _mismatch(value, where, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _mismatch(value, where, "text in Unicode") from None
    if "\0" in value:
        raise _mismatch(value, where, "text without NUL")


def path(value: Any, where: str) -> None:
    """Text that can be a path."""
    text(value, where)
    if len(value.encode()) > 4000 or any(len(part.encode()) > LONGEST_FOLDER for part in value.split("/")):
        raise _mismatch(value, where, f"a path whose every part has at most {LONGEST_FOLDER} bytes")


def name(value: Any, where: str) -> None:
    """Text that can name a folder: no slash, no leading dot."""
    text(value, where)
    if not is_folder_name(value):
        raise _mismatch(value, where, "a name without slash and leading dot, of at most 255 bytes")


def sha256(value: Any, where: str) -> None:
    """64 hexadecimal digits."""
    if not (isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")):
        raise _mismatch(value, where, "a SHA-256 of 64 hexadecimal digits")


def flag(value: Any, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise _mismatch(value, where, "true or false")


def whole(lowest: int, highest: int) -> Shape:
    """Whole numbers from `lowest` to `highest`."""

    def fits(value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise _mismatch(value, where, f"a whole number from {lowest} to {highest}")

    return fits


def number(value: Any, where: str) -> None:
    """A number that counts or measures something: not below 0, and not absurd."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LARGEST:
        raise _mismatch(value, where, f"a number from 0 to {LARGEST:g}")


def finite(value: Any, where: str) -> None:
    """A number of either sign that is not absurd."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -LARGEST <= value <= LARGEST:
        raise _mismatch(value, where, f"a number from {-LARGEST:g} to {LARGEST:g}")


def nullable(shape: Shape) -> Shape:
    """What `shape` takes, or none."""
    return lambda value, where: None if value is None else shape(value, where)


def list_of(shape: Shape) -> Shape:
    """Lists whose every entry fits."""

    def fits(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise _mismatch(value, where, "a list")
        for index, inner in enumerate(value):
            shape(inner, _inside(where, index))

    return fits


def mapping_of(key_shape: Shape, shape: Shape) -> Shape:
    """Mappings whose every key and value fit."""

    def fits(value: Any, where: str) -> None:
        _refuse_no_mapping(value, where)
        for key, inner in value.items():
            key_shape(key, f"a key of {where}")
            shape(inner, _inside(where, key))

    return fits


def fields(required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    """Mappings that have all `required` keys; every key that is listed holds what its shape takes."""
    shapes = {**required, **(optional or {})}

    def fits(value: Any, where: str) -> None:
        _refuse_no_mapping(value, where)
        if missing := sorted(required.keys() - value.keys()):
            raise ValueError(f"{where} lacks {', '.join(missing)}")
        for key, inner in value.items():
            text(key, f"a key of {where}")
            shapes.get(key, anything)(inner, _inside(where, key))

    return fits


def _refuse_no_mapping(value: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        raise _mismatch(value, where, "a mapping of keys to values")
