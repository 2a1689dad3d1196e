"""Lazily: a module that others import and hardly use is loaded when it is used."""

from __future__ import annotations

import importlib.util
import sys


def import_when_used(name: str) -> None:
    """Import the module once somebody asks it for something."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:  # a version that does not bring it
        return
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    package, _, own = name.rpartition(".")
    setattr(sys.modules[package], own, module)  # else `from package import module` looks at the module, which loads it
    spec.loader.exec_module(module)
