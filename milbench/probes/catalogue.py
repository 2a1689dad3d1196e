"""Catalogue: every test by name, in the order of the tables."""

from __future__ import annotations

from collections.abc import Mapping

from milbench.probes import conditions, layouts, rules
from milbench.probes.probe import Probe

PROBES: Mapping[str, Probe] = {
    found.name: found
    for module in (rules, layouts, conditions)
    for found in vars(module).values()
    if isinstance(found, Probe)
}
