"""Imports: whether libraries can be imported here, each group in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from milbench.commands.doctor.child import run_script
from milbench.commands.doctor.requirements import reinstall
from milbench.commands.doctor.section import Remark

IMPORT_SECONDS = 90.0
"""The first import of torch from a network file system takes a minute or more."""

MODULES: Mapping[str, str] = {
    "numpy": "numpy",
    "h5py": "h5py",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "openslide": "openslide-python",
    "tifffile": "tifffile",
    "zarr": "zarr",
}
"""Modules with compiled parts or partners that fail if versions do not fit, and the packages that bring them.

MLflow is not among them: its import takes seconds, and a run says by itself if it cannot be tracked.
"""


def imported(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What came of importing each module, by its name: "facts" and "warnings", or "error"."""
    told = run_script("try_imports.py", *names, seconds=IMPORT_SECONDS)
    # where the process ended, the line before the import is the last one of its module
    return {line["module"]: line if len(line) > 1 else {"error": told.ended} for line in told.lines}


def failed(tries: Mapping[str, Mapping[str, Any]]) -> tuple[Remark, ...]:
    """A remark for each module that could not be imported."""
    return tuple(
        Remark(f"`import {name}` fails ({each['error']}).", f"Install it anew: {reinstall(MODULES.get(name, name))}")
        for name, each in tries.items()
        if "error" in each
    )
