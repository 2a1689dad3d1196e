"""Finding: one thing that was noticed about a cohort, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""`milbench run` refuses errors; warnings make results doubtful; notes are worth knowing."""

SHOWN = 3


class Finding(NamedTuple):
    """What was noticed.

    Attributes
    ----------
    severity : one of `SEVERITIES`.
    what : a sentence.
    fix : what to do; empty where nothing need be done.
    task : the task that it is about; empty where it is about all of the cohort.
    """

    severity: str
    what: str
    fix: str = ""
    task: str = ""

    @property
    def text(self) -> str:
        """The finding as one text, without its severity."""
        return f"{self.what.removesuffix('.')}. {self.fix}".strip()

    def __str__(self) -> str:
        return f"{self.severity}: {self.text}"


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, errors before warnings before notes."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: SEVERITIES.index(finding.severity)))


def of_tasks(findings: Iterable[Finding], tasks: Sequence[str]) -> list[Finding]:
    """The findings about the cohort and about `tasks`."""
    return [finding for finding in findings if not finding.task or finding.task in tasks]


def some(names: Sequence[str], most: int = SHOWN) -> str:
    """The first of the names, and dots for others."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
