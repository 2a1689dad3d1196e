"""Datasets of others: the cohort that a registered function gives, checked as closely as a cohort that is read from files."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_float_dtype

from milbench.bag import Bag, check_features
from milbench.cohorts.cohort import Cohort, read_cohort
from milbench.cohorts.cohort_file import CohortFile, cohort_file
from milbench.datasets import Loader
from milbench.errors import DataError, MilbenchError, UsageError
from milbench.names import refuse_cohort_name
from milbench.process.must_return import DidNotReturnError, must_return
from milbench.process.shared_state import left_as_it_was
from milbench.store.csv_files import exact_csv
from milbench.store.identity import canonical_json

CALL_SECONDS = 600.0
"""Longest time that a function may take to give its cohort: it may read thousands of headers, and no features."""

ARGUMENTS = ("data_root", "allow_missing")
"""What a function may take, by these names."""

IDS = ("slide_id", "patient_id")


def refuse_name(name: str) -> None:
    """UsageError for a name that no dataset can have."""
    if name == "all":
        raise UsageError("no dataset can be called 'all': `--datasets all` names all datasets. Call it otherwise.")
    refuse_cohort_name(name)


def place_of(make: Callable[..., Any]) -> tuple[str, str]:
    """File and name of a function or class. They stay the same if the file is imported twice, or a cell is run again."""
    return str(getattr(sys.modules.get(make.__module__), "__file__", None) or make.__module__), make.__qualname__


def loader_of(name: str, title: str, make: Callable[..., Any]) -> Loader:
    """Function that gives the checked cohort.

    Raises
    ------
    UsageError : `make` needs an argument that milbench does not give.
    """
    _wanted(name, make)

    def load(data_root: Path | None, *, allow_missing: bool) -> Cohort:
        found = _given(name, make, data_root, allow_missing=allow_missing)
        if isinstance(found, Path):
            return read_cohort(_file_at(name, title, found), allow_missing=allow_missing)
        # a plain Cohort: a class of somebody's own may not be made of a cohort's attributes
        plain = {each.name: getattr(found, each.name) for each in fields(Cohort)}
        return _checked(_where(name, make), Cohort(**{**plain, "name": name, "title": title or found.title}))

    return load


def file_of(name: str, title: str, make: Callable[..., Any]) -> Callable[[Path | None], CohortFile | None]:
    """Function that gives where labels and features lie; None if `make` gives no path but a cohort."""

    def file(data_root: Path | None) -> CohortFile | None:
        found = _given(name, make, data_root, allow_missing=False)
        return _file_at(name, title, found) if isinstance(found, Path) else None

    return file


def _given(name: str, make: Callable[..., Any], data_root: Path | None, *, allow_missing: bool) -> Cohort | Path:
    """What the function gives, not looked at yet; a relative path starts at the plug-in's folder."""
    values = {"data_root": data_root, "allow_missing": allow_missing}
    found = _called(name, make, {argument: values[argument] for argument in _wanted(name, make)})
    if isinstance(found, (str, os.PathLike)):
        return Path(place_of(make)[0]).parent / found
    if isinstance(found, Cohort):
        return found
    raise DataError(
        f"{_where(name, make)} gives a value of type {type(found).__name__}. Return a milbench Cohort, or the path of a "
        "cohort's folder or YAML file."
    )


def _where(name: str, make: Callable[..., Any]) -> str:
    return f"dataset '{name}' ({place_of(make)[0]}, {make.__qualname__})"


def _wanted(name: str, make: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(make).parameters.values()
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    if odd := [each.name for each in named if each.name not in ARGUMENTS and each.default is each.empty]:
        raise UsageError(
            f"{_where(name, make)} needs the argument '{odd[0]}'. milbench gives {' and '.join(ARGUMENTS)}, by name."
        )
    return [each.name for each in named if each.name in ARGUMENTS]


def _called(name: str, make: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """What the function gives; what it changes in this process is put back."""
    try:
        with left_as_it_was(), must_return(CALL_SECONDS):
            return make(**arguments)
    except MilbenchError:
        raise
    except (Exception, DidNotReturnError) as error:
        reason = str(error) if isinstance(error, DidNotReturnError) else f"{type(error).__name__}: {error}"
        raise DataError(f"{_where(name, make)} gives no cohort: {reason.removesuffix('.')}. Fix its file.") from error


def _file_at(name: str, title: str, path: Path) -> CohortFile:
    file = cohort_file(path)
    return replace(file, name=name, title=title or file.title)


def _checked(where: str, cohort: Cohort) -> Cohort:
    """The cohort, if milbench can train on it; its bags are checked as they are loaded."""
    slides = cohort.slides
    if not isinstance(slides, pd.DataFrame) or not set(IDS) <= set(slides):
        raise DataError(
            f"{where}: `slides` must be a DataFrame with the columns {', '.join(IDS)}; got {_told(slides)}."
        )
    for column in IDS:
        if odd := [value for value in slides[column] if not isinstance(value, str) or not value]:
            raise DataError(f"{where}: {column} holds {odd[0]!r}. Every id must be text.")
    if len(double := slides["slide_id"][slides["slide_id"].duplicated()]):
        raise DataError(f"{where}: slide '{double.iloc[0]}' stands in `slides` twice. Give each slide one row.")
    if cohort.tasks == () or len(slides) == 0:
        raise DataError(f"{where} has no {'slides' if len(slides) == 0 else 'tasks'}.")
    for task in cohort.every_task:
        _refuse_odd_labels(where, cohort, task)
    loading = replace(cohort, slides=slides.reset_index(drop=True), load=_checking(where, cohort))
    return loading if cohort.fingerprint else replace(loading, fingerprint=_fingerprint(loading))


def _told(slides: Any) -> str:
    return f"the columns {', '.join(map(str, slides))}" if isinstance(slides, pd.DataFrame) else type(slides).__name__


def _refuse_odd_labels(where: str, cohort: Cohort, task: str) -> None:
    if task not in cohort.slides:
        raise DataError(f"{where}: task '{task}' is no column of `slides`. Its columns: {', '.join(cohort.slides)}.")
    labels = cohort.slides[task]
    if not is_float_dtype(labels):
        raise DataError(f"{where}: column '{task}' is of type {labels.dtype}. Labels are float numbers; NaN = unknown.")
    endpoint, known = cohort.endpoint(task), labels.dropna()
    if endpoint.kind in ("regression", "survival"):
        odd = known[~np.isfinite(known) | ((known == 0) & (endpoint.kind == "survival"))]
    else:
        odd = known[~known.isin(range(max(2, len(endpoint.classes))))]
    if len(odd):
        slide = cohort.slides["slide_id"][odd.index[0]]
        raise DataError(f"{where}: slide '{slide}' has {odd.iloc[0]:g} in the {endpoint.kind} task '{task}'.")


def _checking(where: str, cohort: Cohort) -> Callable[[str], Bag]:
    """`cohort.load`, whose bags are looked at, and whose errors name the slide."""

    def load(slide_id: str) -> Bag:
        try:
            bag = cohort.load(slide_id)
        except MilbenchError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{where}: slide '{slide_id}' cannot be loaded: {type(error).__name__}: {error}."
            ) from error
        if not isinstance(bag, Bag) or not isinstance(bag.features, torch.Tensor):
            raise DataError(f"{where}: `load` gives no milbench Bag with a Tensor of features for slide '{slide_id}'.")
        check_features(bag.features, f"{where}, slide '{slide_id}'", cohort.in_features)
        return bag

    return load


def _fingerprint(cohort: Cohort) -> str:
    """SHA-256 of labels, what tasks ask, and every bag's features; for cohorts that state none."""
    digest = hashlib.sha256(exact_csv(cohort.slides).encode())
    digest.update(canonical_json({task: each.as_dict() for task, each in cohort.endpoints.items()}).encode())
    for slide in cohort.slides["slide_id"]:
        features = cohort.load(slide).features
        digest.update(f"{slide}\0{features.dtype}\0{tuple(features.shape)}\0".encode())
        digest.update(features.contiguous().numpy().tobytes())
    return digest.hexdigest()
