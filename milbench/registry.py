"""Registry: models by name, and names by pattern. Models come from entry points and from `--plugin` files.

A plug-in file may register models, datasets and encoders, so every file is imported here, and once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import Distribution, EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from milbench.errors import UsageError, unknown_name
from milbench.names import ALL, MULTI, PLUGINS, SINGLE, STUDY, refuse_shared_folders

if TYPE_CHECKING:  # torch takes seconds to import, and names are selected without it
    from milbench.models import MILModel
    from milbench.process.shared_state import Moved

ENTRY_POINTS = "milbench.models"

NO_GROUPS: Mapping[str, Sequence[str]] = MappingProxyType({})

IMPORT_SECONDS = 120.0
"""Longest time that importing a plug-in or package may take: libraries on a slow network disk take a minute."""

_MOVED: dict[str, list[Moved]] = {}
"""What each import changed in this process. It belongs to the process, as `sys.modules` does."""

_OF_PLUGIN: dict[str, tuple[str, ...]] = {}
"""Names of the models that each plug-in registered as it was imported, by the name of its module."""


def select(
    kind: str, words: Iterable[str], known: Iterable[str], groups: Mapping[str, Sequence[str]] = NO_GROUPS
) -> list[str]:
    """Names that `words` ask for, in the order of `known` and then of `groups`, each once.

    ``select("model", ["m*,amil"], ["amil", "m4", "dsmil"])`` is ``["amil", "m4"]``.

    Parameters
    ----------
    kind : what is selected, for the message: "model" or "dataset".
    words : names, "all" or shell-style patterns, one or several per word, separated by commas. A word that is a name
        asks for that one alone, even if it reads like a pattern ("HER2 [IHC]") or holds a comma.
    known : all names.
    groups : names by the word that asks for all of them. They may lie beyond `known`: then no pattern and no "all" asks
        for one.

    Raises
    ------
    UsageError : a word matches no name, there are no words, or they name nothing but empty groups.
    """
    names = list(known)
    every = list(dict.fromkeys((*names, *(name for group in groups.values() for name in group))))
    asked = [part for word in words for part in _parts(word, every)]
    if not asked:
        raise UsageError(
            f"no {kind} was named. Name at least one, or use {_in_words([*groups, ALL])}. Known: {', '.join(names)}."
        )
    chosen: set[str] = set()
    for word in asked:
        matches = names if word == ALL else _meant(word, names, every, groups)
        if not matches and word not in groups:
            raise unknown_name(kind, word, [*every, *groups])
        chosen.update(matches)
    if not chosen:
        raise UsageError(f"there is no {kind} in {_in_words(asked)}. Known: {', '.join(every)}.")
    return [name for name in every if name in chosen]


def _in_words(words: Sequence[str]) -> str:
    """The words as a sentence lists them: "a, b or c"."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _parts(word: str, names: Sequence[str]) -> list[str]:
    """The word itself if it is a name, else what stands between its commas."""
    return [word] if word in names else [part.strip() for part in word.split(",") if part.strip()]


def _meant(word: str, names: Sequence[str], every: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Sequence[str]:
    if word in every:
        return [word]
    return groups[word] if word in groups else [name for name in names if fnmatchcase(name, word)]


def select_models(words: Iterable[str], known: Mapping[str, type[MILModel]], plugins: Iterable[Path] = ()) -> list[str]:
    """Names of the models that `words` ask for: names, patterns and groups, as `select` says.

    Parameters
    ----------
    known : all models, as `load_models` returns them.
    plugins : the files that were given to it, whose models are the group "plugins".

    Raises
    ------
    UsageError : as `select` does.
    """
    return select("model", words, known, model_groups(known, plugins))


def model_groups(known: Mapping[str, type[MILModel]], plugins: Iterable[Path] = ()) -> dict[str, list[str]]:
    """Names of the models of each group but "all", by the group's word, in the order of `known`.

    A plug-in's models are never in the group of the study: a copy of a baseline may declare it.
    """
    of_plugins = {name for path in plugins for name in _OF_PLUGIN.get(_module_of(path), ())}
    return {
        STUDY: [name for name, model in known.items() if model.info.study and is_baseline(model)],
        SINGLE: [name for name, model in known.items() if model.info.tasks == SINGLE],
        MULTI: [name for name, model in known.items() if model.info.tasks == MULTI],
        PLUGINS: [name for name in known if name in of_plugins],
    }


def load_models(plugins: Iterable[Path] = ()) -> Mapping[str, type[MILModel]]:
    """Every registered model by name: milbench's own first, in order of registration, then all others by alphabet.

    Parameters
    ----------
    plugins : Python files that register models.

    Raises
    ------
    UsageError : a plug-in file or an installed package cannot be imported, ends the process or does not come back; or two
        models would share a folder.
    """
    from milbench.models import REGISTERED

    for entry in sorted(_installed(), key=lambda entry: (not _is_ours(entry), entry.name)):
        _import_package(entry, "model")
    import_plugins(plugins)
    refuse_shared_folders("models", REGISTERED)
    leading = [name for name, model in REGISTERED.items() if is_baseline(model)]
    return {name: REGISTERED[name] for name in (*leading, *sorted(REGISTERED.keys() - set(leading)))}


def import_plugins(plugins: Iterable[Path]) -> None:
    """Import plug-in files, each once; raises `UsageError` as `load_models` does."""
    for path in plugins:
        _import_file(path)


def import_packages(group: str, kind: str) -> None:
    """Import installed packages by their entry points of a group, for what they register; raises as `load_models`.

    Parameters
    ----------
    kind : what they register, for a message: "model" or "dataset".
    """
    for entry in sorted(_installed(group), key=lambda entry: entry.name):
        _import_package(entry, kind)


def has_packages_of_others(group: str = ENTRY_POINTS) -> bool:
    """Whether an installed package that is not milbench has entry points of the group; nothing is imported."""
    return not all(map(_is_ours, _installed(group)))


def packages_of_ours() -> set[str]:
    """Names of the packages that bring milbench's own models; nothing is imported."""
    return {entry.module.partition(".")[0] for entry in _installed() if _is_ours(entry)}


def is_baseline(model: type[MILModel]) -> bool:
    """Whether the model comes with milbench, and not from a plug-in or another package."""
    return model.__module__.partition(".")[0] in packages_of_ours()


def import_remarks() -> list[str]:
    """Sentences on what plug-ins and packages changed in this process as they were imported; all of it was put back."""
    return [
        f"{what} changed {', '.join(map(str, moved))} as it was imported. milbench put this back, because all models share it."
        for what, moved in _MOVED.items()
        if moved
    ]


@cache
def _installed(group: str = ENTRY_POINTS) -> EntryPoints:
    """Entry points of the installed packages, of models unless another group is named.

    Cached: a look-up reads the metadata of every installed package, and every model that is built needs one.
    """
    return entry_points(group=group)


def _is_ours(entry: EntryPoint) -> bool:
    return entry.dist is not None and _name_of(entry.dist) == "milbench"


@cache
def _name_of(package: Distribution) -> str:
    """Its name. Cached: each look-up reads the package's metadata, and every model that is built needs some."""
    return str(package.name)


def _import_package(entry: EntryPoint, kind: str) -> None:
    what = f"the {kind} package '{entry.value}'"
    if entry.module in sys.modules:
        entry.load()
        return
    _imported(what, entry.load, "Fix or uninstall it.", module="" if _is_ours(entry) else entry.module)


def _imported(what: str, load: Callable[[], object], mend: str, *, module: str) -> None:
    """Run code of others that registers models or datasets. What it changes in this process is put back and remembered.

    Raises
    ------
    UsageError : the code raises, ends the process or does not come back.
    """
    from milbench.process.must_return import DidNotReturnError, must_return
    from milbench.process.shared_state import functions_left_as_they_were, left_as_it_was

    try:
        # functions first: to list them imports torch and parts of SciPy, which add warning filters. No plug-in does that
        with functions_left_as_they_were(module) as replaced, left_as_it_was() as moved, must_return(IMPORT_SECONDS):
            load()
    except (Exception, DidNotReturnError) as error:
        reason = str(error) if isinstance(error, DidNotReturnError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"{what} cannot be imported: {reason.removesuffix('.')}. {mend}") from error
    _MOVED[what] = [*moved, *replaced]


def _import_file(path: Path) -> None:
    """Import a plug-in once. The module's name is made from the path, so two files of one name never collide."""
    if not path.is_file():
        raise UsageError(f"plug-in {path} does not exist. Check the path after --plugin.")
    name = _module_of(path)
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"plug-in {path} is not a Python file. Give a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    run = spec.loader.exec_module
    from milbench import models

    before = dict(models.REGISTERED)
    try:
        _imported(
            f"plug-in {path}",
            lambda: run(module),
            "A plug-in only defines models, datasets and encoders. Fix the file.",
            module=name,
        )
    except UsageError:
        del sys.modules[name]
        raise
    _OF_PLUGIN[name] = tuple(key for key, model in models.REGISTERED.items() if before.get(key) is not model)


def _module_of(path: Path) -> str:
    """Name of the module that a plug-in becomes."""
    return f"milbench_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
