"""Sections: everything that the doctor looks at, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from milbench.commands.doctor.capacity import capacity
from milbench.commands.doctor.database import database_beside
from milbench.commands.doctor.devices import devices
from milbench.commands.doctor.disks import disks_of
from milbench.commands.doctor.imports import IMPORT_SECONDS
from milbench.commands.doctor.locks import LOCK_SECONDS, locks_at
from milbench.commands.doctor.packages import differences, extras, packages, versions
from milbench.commands.doctor.section import Look, Section
from milbench.commands.doctor.variables import variables

SECONDS = 30.0
"""For what starts no process that imports libraries."""


def sections_of(runs: Path) -> list[Look]:
    """A look per section of the page."""
    looks: list[tuple[str, Callable[[], Section], float]] = [
        ("milbench", versions, SECONDS),
        ("packages", packages, IMPORT_SECONDS + SECONDS),
        ("torch", devices, IMPORT_SECONDS + SECONDS),
        ("machine", capacity, SECONDS),
        ("disk", partial(disks_of, runs), SECONDS),
        ("locks", partial(locks_at, runs), LOCK_SECONDS + SECONDS),
        ("MLflow", partial(database_beside, runs), SECONDS),
        ("extras", extras, SECONDS),
        ("tested with", differences, SECONDS),
        ("variables", variables, SECONDS),
    ]
    return [Look(*each) for each in looks]
