"""milbench: one registry, one splitter and one trainer for multiple-instance learning on slides.

In a notebook, `milbench.open_run("runs/digits")` opens a finished run (docs/notebook.md). Importing `milbench` alone
imports nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milbench.runs.notebook import open_run as open_run

__version__ = "0.1.0"

_DOORS = {"open_run": "milbench.runs.notebook"}
"""Names that are imported when they are first used: pandas and torch take seconds."""


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'milbench' has no attribute '{name}'. It offers {', '.join(_DOORS)}.")
    return getattr(import_module(_DOORS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_DOORS])
