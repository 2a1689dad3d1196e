"""Finding: one thing that was noticed about a cohort, how bad it is, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""`milbench run` refuses errors; warnings make results doubtful; notes are worth knowing."""

SHOWN = 3

MANY_TASKS = 25
"""Tasks from which on one finding stands for all of its kind: thousands of lines hide what is worth reading."""


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
        is_ended = re.search(r"[^.]\.\)$", self.what)  # a sentence in brackets; "(a, b, ...)" is none
        return f"{self.what if is_ended else self.what.removesuffix('.') + '.'} {self.fix}".strip()

    def __str__(self) -> str:
        return f"{self.severity}: {self.text}"


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, errors before warnings before notes."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: SEVERITIES.index(finding.severity)))


def condensed(findings: Sequence[Finding]) -> list[Finding]:
    """The findings; if one kind holds for more than `MANY_TASKS` tasks, its first one stands for all."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.severity, finding.fix, _kind(finding)), []).append(finding)
    return [finding for group in alike.values() for finding in _first_for_all(group)]


def _kind(finding: Finding) -> str:
    """What the finding says, without its task and numbers."""
    return re.sub(r"\d+", "0", finding.what.replace(finding.task, "") if finding.task else finding.what)


def _first_for_all(group: Sequence[Finding]) -> Sequence[Finding]:
    others = list(dict.fromkeys(finding.task for finding in group if finding.task != group[0].task))
    if len(others) < MANY_TASKS:
        return group
    first = group[0]
    return [
        Finding(
            first.severity, f"{first.what}. The like holds for {len(others)} more tasks ({some(others)})", first.fix
        )
    ]


def of_tasks(findings: Iterable[Finding], tasks: Sequence[str]) -> list[Finding]:
    """The findings about the cohort and about `tasks`."""
    return [finding for finding in findings if not finding.task or finding.task in tasks]


def some(names: Sequence[str], most: int = SHOWN) -> str:
    """The first of the names, and dots for others."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
