"""Names of models, tasks and cohorts, and the folders that keep what belongs to them.

Tables, reports and predictions show the name as it is; only folders take another where no folder can have it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from milbench.errors import UsageError
from milbench.visible import visible_line

LONGEST_FOLDER = 255
"""Bytes of a folder's name that file systems take."""

NO_FOLDER = "/\\\0"

ALL, STUDY, SINGLE, MULTI, PLUGINS = "all", "study", "single", "multi", "plugins"
MODEL_GROUPS = (STUDY, SINGLE, MULTI, PLUGINS, ALL)
"""Words that stand for several models, such as `--models study`. No model has one of these names."""


def is_folder_name(name: str) -> bool:
    """Whether a folder can have the name: no slash, no leading dot, not too long."""
    fits = 0 < len(name.encode(errors="surrogateescape")) <= LONGEST_FOLDER
    return fits and not name.startswith(".") and not set(name) & set(NO_FOLDER)


def folder_name(name: str) -> str:
    """The name itself, or where no folder can have it a similar one that ends in a hash of it.

    >>> folder_name("HER2 [IHC]"), folder_name("MSI/MMR")
    ('HER2 [IHC]', 'MSI_MMR-0fd85a25')
    """
    return name if is_folder_name(name) else plain_name(name)


def file_stem(name: str) -> str:
    """The name itself for a file of an export, or a plain one where no file can have it or it hides a character."""
    return name if is_folder_name(name) and visible_line(name) == name else plain_name(name)


def plain_name(name: str) -> str:
    """A name of letters, digits and `_.-` that reads like `name` and ends in a hash of it, so that no two names share one.

    >>> plain_name("HER2 [IHC]")
    'HER2_IHC_-21aa32d0'
    """
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]
    similar = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).lstrip("._")[:60]
    return f"{similar or 'name'}-{digest}"


def by_folder(names: Iterable[str]) -> dict[str, str]:
    """The true name by the name of its folder."""
    return {folder_name(name): name for name in names}


def refuse_shared_folders(kind: str, names: Iterable[str]) -> None:
    """UsageError where results of two names would lie in one folder."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folder_name(name), name)
        if other != name:
            raise UsageError(
                f"the {kind} '{other}' and '{name}' would keep their results in one folder, '{folder_name(name)}'. "
                "Rename one of them."
            )


def refuse_cohort_name(name: str) -> None:
    """UsageError for a cohort that no folder, file or LaTeX input can be called after."""
    if file_stem(name) != name or not name.strip():
        raise UsageError(
            f"the cohort's name is '{name}', which cannot name a folder of results. "
            f"Write another `name:` in its cohort.yaml, such as {plain_name(name)}: no slash, no leading dot, no control character, not blank."
        )
