"""Spelling: ids of a split file that are the cohort's in other letters, since other programs wrote them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import PurePosixPath

from milbench.formats import composed

FILE_SUFFIXES = (
    ".svs", ".ndpi", ".tif", ".tiff", ".mrxs", ".scn", ".dcm",
    ".h5", ".hdf5", ".pt", ".pth", ".npy", ".npz", ".safetensors",
)  # fmt: skip
"""Endings of slides and of feature files, which no id of a cohort has by itself."""


def _whole(name: str) -> str:
    return name.removesuffix(".0") if name.removesuffix(".0").isdigit() else name


def _bare(name: str) -> str:
    file = PurePosixPath(name.replace("\\", "/")).name
    return next((file.removesuffix(suffix) for suffix in FILE_SUFFIXES if file.endswith(suffix)), file)


REASONS: Mapping[str, Callable[[str], str]] = {
    "have letters of other code points": composed,
    "end in .0, since pandas writes whole numbers so beside blank cells": _whole,
    "are file names": _bare,
}
"""Why an id is spelled otherwise, and what it is then."""


def respelled(names: Collection[str], known: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The known id by name, for names that are not known as they are but in one other spelling; and a note per reason."""
    as_known = {composed(name): name for name in known}
    exact = set(known)
    found: dict[str, str] = {}
    notes = []
    for reason, other in REASONS.items():
        new = {
            name: as_known[composed(other(name))]
            for name in dict.fromkeys(names)
            if name not in exact and name not in found and composed(other(name)) in as_known
        }
        found |= new
        if new:
            name, meant = next(iter(new.items()))
            notes.append(f"{len(new)} ids of the split {reason}: '{name}' is read as '{meant}'")
    return found, notes
