"""Plain YAML: settings as text -> values, counted before anything expands.

A few lines of YAML can stand for billions of values (aliases of aliases), for a list that holds itself, or for a nest
that is too deep for Python. Such text is no settings file, and is refused before it is built. So is a section that has a
key twice: YAML would take the last without a word.
"""

from __future__ import annotations

from typing import Any

import yaml

MOST_VALUES = 200_000
"""Values with aliases written out; a cohort.yaml that lists five thousand tasks has ten thousand."""

DEEPEST = 30


MERGE = "tag:yaml.org,2002:merge"
"""Of the key `<<`, which may stand twice."""


class ExpandsTooFarError(yaml.YAMLError):
    """The text stands for more than any settings file holds."""


class KeyTwiceError(yaml.YAMLError):
    """A section has a key twice."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that stands twice; keys that `<<` brings may still be overridden."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        _refuse_a_key_twice(node)
        super().flatten_mapping(node)


def _refuse_a_key_twice(node: yaml.MappingNode) -> None:
    first: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
            line = key.start_mark.line + 1
            if key.value in first:
                raise KeyTwiceError(f"'{key.value}' stands twice, in lines {first[key.value]} and {line}. Delete one")
            first[key.value] = line


def plain_yaml(text: str) -> Any:
    """The values that the text stands for; aliases are counted as if they were written out.

    Raises
    ------
    yaml.YAMLError : the text is no YAML, expands too far, has a key twice in a section, or holds a value that cannot be,
        such as the 45th of May.
    """
    _refuse_what_expands_too_far(text)
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (ValueError, OverflowError) as error:  # a date or number that cannot be
        raise yaml.YAMLError(str(error)) from error


def _refuse_what_expands_too_far(text: str) -> None:
    """Walk through the text's events, which needs no recursion, and count."""
    sizes: dict[str, int] = {}
    open_ones: list[tuple[str | None, int]] = [(None, 0)]  # anchor and values so far of each nest around the event
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_ones.pop()
            _remember(sizes, anchor, size)
            _add(open_ones, size)
        elif isinstance(event, yaml.ScalarEvent):
            _refuse_what_no_file_holds(event)
            _remember(sizes, event.anchor, 1)
            _add(open_ones, 1)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_ones}:
                raise ExpandsTooFarError(f"'*{event.anchor}' stands inside of what it names, so it holds itself")
            _add(open_ones, sizes.get(str(event.anchor), 1))
        if len(open_ones) > DEEPEST:
            raise ExpandsTooFarError(f"it is nested more than {DEEPEST} levels deep")


def _refuse_what_no_file_holds(event: yaml.ScalarEvent) -> None:
    """Escapes of NUL and of halves of characters stand for characters that no path, JSON file or table can hold."""
    if "\0" in event.value or any("\ud800" <= character <= "\udfff" for character in event.value):
        line = event.start_mark.line + 1 if event.start_mark else "?"
        raise yaml.YAMLError(f"the text in line {line} holds a NUL or half of a character, {ascii(event.value)[:60]}")


def _remember(sizes: dict[str, int], anchor: str | None, size: int) -> None:
    if anchor is not None:
        sizes[anchor] = size


def _add(open_ones: list[tuple[str | None, int]], size: int) -> None:
    anchor, so_far = open_ones[-1]
    if so_far + size > MOST_VALUES:
        raise ExpandsTooFarError(f"with its aliases written out it holds more than {MOST_VALUES:,} values")
    open_ones[-1] = (anchor, so_far + size)
