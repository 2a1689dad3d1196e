"""Requirements: what milbench needs, what its extras need, and which versions it was tested with."""

from __future__ import annotations

import platform
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

import milbench

REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)(?:\[(?P<extras>[\w,-]+)\])?(?:>=(?P<least>[\d.]+))?\s*(?:;(?P<marker>.*))?"
)
EXTRA = re.compile(r"""extra\s*==\s*["'](?P<extra>[\w-]+)["']""")

FOR_DEVELOPERS = frozenset({"test", "dev"})
"""Extras that a user has no use for."""


class Requirement(NamedTuple):
    """A package that is needed; `least` is the oldest version that will do, "" if any will."""

    name: str
    least: str = ""

    @property
    def found(self) -> str:
        """The installed version; "" if there is none."""
        return installed(self.name)

    @property
    def is_met(self) -> bool:
        """Whether a version that will do is installed."""
        return bool(self.found) and numbers(self.found) >= numbers(self.least)

    def __str__(self) -> str:
        return f"{self.name}>={self.least}" if self.least else self.name


def requirements() -> dict[str, tuple[Requirement, ...]]:
    """What milbench needs under the key "", and what each extra needs; empty if nobody tells.

    A checkout tells by its pyproject.toml: what an editable install recorded was true when it was made.
    """
    project = checkout() / "pyproject.toml"
    if project.is_file():
        return _resolved(_of_project(tomllib.loads(project.read_text(encoding="utf-8"))["project"]))
    try:
        return _resolved(_of_metadata(requires("milbench") or []))
    except PackageNotFoundError:
        return {}


def tested_versions() -> dict[str, str]:
    """Version by package that milbench was tested with (constraints.txt); empty outside of a checkout."""
    path = checkout() / "constraints.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pairs = (line.partition("==") for line in lines if not line.startswith("#") and "==" in line)
    return {name.strip(): tested.strip() for name, _, tested in pairs}


def checkout() -> Path:
    """The folder that holds the package: a checkout has pyproject.toml there, an installed milbench has not."""
    return Path(milbench.__file__).parents[1]


def installed(name: str) -> str:
    """The version of an installed package; "" if there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def reinstall(name: str) -> str:
    """The command that installs a package anew, in the tested version if that is known."""
    tested = tested_versions().get(name, "")
    return f"pip install --force-reinstall {name}{f'=={tested}' if tested else ''}"


def numbers(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with, to compare: (2, 13, 0) for "2.13.0+cpu"."""
    return tuple(int(part) for part in re.match(r"[\d.]*", text)[0].split(".") if part)  # type: ignore[index]


def _of_project(project: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Each extra with a requirement as it is written."""
    lines: Mapping[str, list[str]] = {"": project["dependencies"], **project["optional-dependencies"]}  # type: ignore[dict-item]
    return ((extra, each) for extra, every in lines.items() for each in every)


def _of_metadata(lines: list[str]) -> Iterator[tuple[str, str]]:
    for text in lines:
        extra = EXTRA.search(text)
        yield (extra["extra"] if extra else ""), text


def _resolved(lines: Iterator[tuple[str, str]]) -> dict[str, tuple[Requirement, ...]]:
    """Requirements by extra; an extra that names others (`milbench[wsi]`) needs what they need."""
    own: dict[str, list[Requirement]] = {"": []}
    others: dict[str, set[str]] = {}
    for extra, text in lines:
        found = REQUIREMENT.match(text)
        if found is None or ("'Linux'" in text.replace('"', "'") and platform.system() != "Linux"):
            continue
        needs = own.setdefault(extra, [])
        if found["name"] == "milbench":
            others.setdefault(extra, set()).update((found["extras"] or "").split(","))
        else:
            needs.append(Requirement(found["name"], found["least"] or ""))
    return {
        extra: tuple(dict.fromkeys([*needs, *(each for other in others.get(extra, ()) for each in own.get(other, ()))]))
        for extra, needs in own.items()
    }
