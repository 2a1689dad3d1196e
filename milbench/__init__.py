"""milbench: one registry, one splitter and one trainer for multiple-instance learning on slides.

In Python, `milbench.open_run("runs/digits")` opens a finished run (docs/python.md). Importing `milbench` alone imports
nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # type checkers and editors see the names, and nothing is imported
    from milbench.export.exported import load_exported
    from milbench.runs.notebook import attention, open_run, read_cohort, statistics
    from milbench.runs.one_training import fit

__version__ = "0.1.0"

__all__ = ["attention", "fit", "load_exported", "open_run", "read_cohort", "statistics"]

_DOORS = {
    "attention": "milbench.runs.notebook",
    "fit": "milbench.runs.one_training",
    "load_exported": "milbench.export.exported",
    "open_run": "milbench.runs.notebook",
    "read_cohort": "milbench.runs.notebook",
    "statistics": "milbench.runs.notebook",
}
"""Modules by the names that are imported when they are first used: pandas and torch take seconds."""


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'milbench' has no attribute '{name}'. It offers {', '.join(_DOORS)}.")
    return getattr(import_module(_DOORS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_DOORS])
