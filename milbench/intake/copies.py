"""Copies: slides whose feature files hold the same bytes under two ids."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from milbench.cohorts.content import content_of
from milbench.cohorts.fingerprint import file_ends
from milbench.errors import FeatureFileError
from milbench.formats.linked import n_bytes
from milbench.intake.patients import Roles, on_two_sides, roles_of
from milbench.labels.finding import ERROR, WARNING, Finding, some
from milbench.splits import Split
from milbench.store.files import file_sha256

CHUNK = 1 << 20


def same_files(files: Mapping[str, Path], slides: Iterable[str]) -> list[list[str]]:
    """Groups of slides whose files are equal byte for byte.

    Sizes are compared first, then both ends, and whole files only where these agree: ends alone may be equal in files
    that differ in the middle. A file that cannot be read is left out; whoever reads it for its values names it.
    """
    groups = [list(slides)]
    for key in (_size, _ends, _content):
        groups = [smaller for group in groups for smaller in _parted(group, files, key)]
    return groups


def _parted(slides: Sequence[str], files: Mapping[str, Path], key: Callable[[Path], Hashable]) -> list[list[str]]:
    """The slides by `key` of their files; groups of one are dropped."""
    same: dict[Hashable, list[str]] = defaultdict(list)
    for slide in slides:
        try:
            same[key(files[slide])].append(slide)
        except (OSError, FeatureFileError):
            continue
    return [group for group in same.values() if len(group) > 1]


def _size(path: Path) -> int:
    return n_bytes(path)


def _ends(path: Path) -> bytes:
    return hashlib.sha256(file_ends(path)).digest()


def _content(path: Path) -> str:
    return content_of("", path, {}).sha256 if path.is_dir() else file_sha256(path)


def copy_findings(
    what: str,
    groups: Sequence[Sequence[str]],
    slides: pd.DataFrame,
    tasks: Sequence[str],
    split: Split | None,
    *,
    as_given: bool = False,
) -> list[Finding]:
    """One finding per kind of copies, the worst kind that a group is of: on two sides, of two patients, labelled differently.

    Parameters
    ----------
    what : what the slides share: "the same file" or "the same features".
    slides : `slide_id`, `patient_id` and the tasks' columns.
    split : None = not known.
    as_given : whether the user says that the ids are meant so; copies on two sides are a warning then.
    """
    by_slide, roles = slides.set_index("slide_id"), {} if split is None else roles_of(split)
    kinds: dict[str, list[Sequence[str]]] = defaultdict(list)
    for group in groups:
        kinds[_kind(by_slide.loc[list(group)], tasks, roles)].append(group)
    return [_finding(what, kind, kinds[kind], as_given=as_given) for kind in KINDS if kind in kinds]


KINDS: Mapping[str, tuple[str, str]] = {
    "sides": (", of different patients and on two sides of a fold, so that the test leaks", "Keep one of each."),
    "patients and labels": (", of different patients and with different labels", "Find out which is right, and keep that one."),
    "patients": (", of different patients", "Find out whose it is, and keep that one."),
    "labels": (" with different labels", "Find out which is right, and keep that one."),
    "": ("", "Keep one of each, or extract again."),
}  # fmt: skip
"""What is said of copies, and what to do; worst first."""


def _kind(rows: pd.DataFrame, tasks: Sequence[str], roles: Roles) -> str:
    patients = list(rows["patient_id"].unique())
    if on_two_sides(patients, roles):
        return "sides"
    kinds = {"patients": len(patients) > 1, "labels": bool((rows[list(tasks)].nunique() > 1).any())}
    return " and ".join(name for name, is_so in kinds.items() if is_so)


def _finding(what: str, kind: str, groups: Sequence[Sequence[str]], *, as_given: bool) -> Finding:
    told, fix = KINDS[kind]
    severity = ERROR if kind == "sides" and not as_given else WARNING
    shown = some([" = ".join(group[:4]) for group in groups])
    n = f"{len(groups)} group{'s' * (len(groups) != 1)} of slides hold{'s' * (len(groups) == 1)} {what}"
    if severity == ERROR:
        fix += " If both are meant to stay, write `patients: as_given` in cohort.yaml."
    return Finding(severity, f"{n}{told}: {shown}", fix)
