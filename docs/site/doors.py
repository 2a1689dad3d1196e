"""Doors: the four ways into the site, as `doors.yaml` lists them, and the page that stands at each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

FILE = Path(__file__).with_name("doors.yaml")


class Part(NamedTuple):
    """Pages of a door under one heading: those of the repository, and groups of those made from the code."""

    title: str
    pages: tuple[str, ...]
    made: tuple[str, ...]


class Door(NamedTuple):
    """One entry of the navigation."""

    name: str
    title: str
    says: str
    parts: tuple[Part, ...]

    @property
    def pages(self) -> list[str]:
        """Paths of its pages in the repository."""
        return [page for part in self.parts for page in part.pages]


def doors() -> list[Door]:
    """The doors in the order of the navigation."""
    return [
        Door(each["door"], each["title"], each["says"], tuple(_parts(each["parts"])))
        for each in yaml.safe_load(FILE.read_text(encoding="utf-8"))
    ]


def _parts(parts: Sequence[Mapping[str, object]]) -> Iterator[Part]:
    for part in parts:
        yield Part(str(part["title"]), *(tuple(map(str, part.get(key, ()))) for key in ("pages", "made")))  # type: ignore[call-overload]


def pages_of_doors(made: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The doors' own pages by path: a sentence, and what lies behind.

    Parameters
    ----------
    made : by group, the paths of the pages that the navigation lists; a group's other pages hang below these.
    """
    return {f"{door.name}.md": "\n".join(_page(door, made)) for door in doors()}


def _page(door: Door, made: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield f"# {door.title}\n\n{door.says}\n"
    for part in door.parts:
        paths = [*part.pages, *(path for group in part.made for path in made[group])]
        yield f"```{{toctree}}\n:caption: {part.title}\n:maxdepth: 1\n"
        yield from (f"/{path.removesuffix('.md')}" for path in paths)
        yield "```\n"


def home(readme: str) -> str:
    """The first page: the README with the doors behind it."""
    names = "\n".join(door.name for door in doors())
    return f"{readme}\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
