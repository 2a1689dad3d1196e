"""Registry: name or pattern -> entry. Finds models through entry points and `--plugin` files."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path

from milbench.errors import UsageError, unknown_name
from milbench.models import REGISTERED, MILModel

ENTRY_POINTS = "milbench.models"
OURS = "baselines"
"""Entry point of the models that come with milbench: they lead every table."""


def select(kind: str, words: Iterable[str], known: Iterable[str]) -> list[str]:
    """Names that `words` ask for, in the order of `known`, each once.

    Parameters
    ----------
    kind : what is selected, for the message: "model" or "dataset".
    words : names, "all", shell-style patterns; separated by commas or given as several words.
    known : all names there are.

    Raises
    ------
    UsageError : a word matches nothing, or there are no words.
    """
    names = list(known)
    asked = [part.strip() for word in words for part in word.split(",") if part.strip()]
    if not asked:
        raise UsageError(f"no {kind} was named. Known: {', '.join(names)}.")
    chosen: set[str] = set()
    for word in asked:
        matches = names if word == "all" else [name for name in names if fnmatchcase(name, word)]
        if not matches:
            raise unknown_name(kind, word, names)
        chosen.update(matches)
    return [name for name in names if name in chosen]


def load_models(plugins: Iterable[Path] = ()) -> Mapping[str, type[MILModel]]:
    """Every registered model by name: installed packages first, then the plug-in files.

    Raises
    ------
    UsageError : a plug-in file or an installed package cannot be imported.
    """
    packages = sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name != OURS)
    for entry in packages:
        try:
            entry.load()
        except Exception as error:
            raise UsageError(f"the model package '{entry.value}' cannot be imported: {error}. Mend or uninstall it.") from error
    for path in plugins:
        _import_file(path)
    owner = {entry.value: rank for rank, entry in enumerate(packages)}
    ranked = sorted(REGISTERED.items(), key=lambda item: owner.get(item[1].__module__.split(".")[0], len(owner)))
    return dict(ranked)


def _import_file(path: Path) -> None:
    """Import a plug-in once; the module's name is made from the path so that two files never collide."""
    if not path.is_file():
        raise UsageError(f"plug-in {path} does not exist. Check the path after --plugin.")
    name = f"milbench_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"plug-in {path} is no Python file. It must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"plug-in {path} cannot be imported: {type(error).__name__}: {error}.") from error
