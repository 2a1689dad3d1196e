"""Packages: which are installed, whether the needed ones can be imported, and which parts of milbench are left out."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import milbench
from milbench.commands.doctor.imports import MODULES, failed, imported
from milbench.commands.doctor.requirements import (
    FOR_DEVELOPERS,
    Requirement,
    installed,
    requirements,
    tested_versions,
)
from milbench.commands.doctor.section import Remark, Section
from milbench.runs.commit import commit_of

MOST_DIFFERENCES = 12
"""Packages of another version than the tested one that the page names; JSON names all."""


def versions() -> Section:
    """Version and commit of milbench, version of Python, and the system."""
    commit = commit_of(Path(milbench.__file__).parent)
    values = {
        "milbench": milbench.__version__,
        "commit": commit,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    of_commit = f" (commit {commit[:12]}{'-dirty' * commit.endswith('-dirty')})" if commit else ""
    return Section(
        "milbench", f"{milbench.__version__}{of_commit}, Python {values['python']}, {values['system']}", values
    )


def packages() -> Section:
    """Versions of the packages that milbench needs, and whether those that compute can be imported."""
    needed = requirements().get("", ())
    tries = imported([name for name in MODULES if installed(MODULES[name])])
    values = {each.name: each.found for each in needed}
    hdf5 = tries.get("h5py", {}).get("facts", {}).get("hdf5", "")
    texts = [
        f"{name} {found or 'missing'}" + f" (HDF5 {hdf5})" * (name == "h5py" and bool(hdf5))
        for name, found in values.items()
    ]
    broken = (*map(_not_met, (each for each in needed if not each.is_met)), *failed(tries))
    return Section("packages", ", ".join(texts), {**values, **({"hdf5": hdf5} if hdf5 else {})}, broken)


def extras() -> Section:
    """Which extras are there, which are not and how pip installs them."""
    every = {name: needs for name, needs in requirements().items() if name and name not in FOR_DEVELOPERS}
    there = [name for name, needs in every.items() if all(each.is_met for each in needs)]
    missing = {name: _lacking(needs) for name, needs in every.items() if name not in there}
    lacking = [f"{name} (without {', '.join(lacks)})" for name, lacks in missing.items()]
    text = f"installed: {', '.join(there) or 'none'}"
    if missing:
        text += f"; not installed: {', '.join(lacking)}; pip install 'milbench[{','.join(missing)}]'"
    return Section("extras", text, {"installed": there, "missing": missing})


def differences() -> Section:
    """Packages of another version than the one that milbench is tested with."""
    tested = tested_versions()
    mine = {name: installed(name).partition("+")[0] for name in tested}
    other = {
        name: {"here": mine[name], "tested": tested[name]} for name in tested if mine[name] not in ("", tested[name])
    }
    if not tested:
        return Section("tested with", "not known: an installed milbench carries no constraints.txt")
    shown = [
        f"{name} {each['here']} (tested: {each['tested']})" for name, each in list(other.items())[:MOST_DIFFERENCES]
    ]
    more = [f"{len(other) - MOST_DIFFERENCES} more"] if len(other) > MOST_DIFFERENCES else []
    return Section("tested with", ", ".join([*shown, *more]) or "the versions that are installed here", other)


def _not_met(needed: Requirement) -> Remark:
    there = f"is {needed.found}" if needed.found else "is missing"
    return Remark(f"{needed.name} {there}, and milbench needs {needed}.", f"pip install '{needed}'")


def _lacking(needs: Sequence[Requirement]) -> list[str]:
    return [str(each) for each in needs if not each.is_met]
