"""Sides: whether what a trial predicted are the slides of its sides, once each, with the labels of the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from milbench.bundles.difference import Difference
from milbench.bundles.run_tables import Tables
from milbench.endpoints.endpoint import event_of, time_of
from milbench.labels.finding import some
from milbench.store.columns import Columns
from milbench.store.run_folder import TRIALS
from milbench.store.trial import PREDICTIONS, StoredTrial

Slides = frozenset[tuple[str, str]]
"""(role, slide) of a trial's rows of one task."""


def side_differences(trials: Sequence[StoredTrial], tables: Tables, prefix: str) -> Iterator[Difference]:
    """What trials of one cohort predicted on the wrong side, left out, or hold against another label."""
    seen: dict[object, Slides] = {}  # nearly all trials of a fold predicted the same slides: those are one object
    predicted: dict[tuple[int, str], set[Slides]] = defaultdict(set)
    own: list[tuple[StoredTrial, dict[str, Slides]]] = []
    for trial in trials:
        columns, file = trial.answer_columns(), f"{prefix}{TRIALS}/{trial.id}/{PREDICTIONS}"
        for what in (*_on_wrong_sides(trial, columns, tables), *_other_labels(trial, columns, tables)):
            yield Difference(file, what)
        found = _slides(columns, seen)
        own.append((trial, found))
        for task, slides in found.items():
            predicted[trial.info["fold"], task].add(slides)
    for trial, found in own:
        for task, slides in found.items():
            others = predicted[trial.info["fold"], task] - {slides}
            lacking = sorted(f"{slide} ({role})" for role, slide in frozenset().union(*others) - slides)
            if lacking:
                what = f"has no row of {task} for {len(lacking)} slide(s) that other trials of the fold predicted: {some(lacking)}"
                yield Difference(f"{prefix}{TRIALS}/{trial.id}/{PREDICTIONS}", what)


def _slides(columns: Columns, seen: dict[object, Slides]) -> dict[str, Slides]:
    """(role, slide) of the slides with a known label, by task."""
    found: dict[str, Slides] = {}
    known = ~np.isnan(columns.target)
    for task in columns.task.used():
        rows = columns.task.are(task) & known
        role, slide = columns.role.where(rows), columns.slide_id.where(rows)
        key = (role.values, role.codes.tobytes(), slide.values, slide.codes.tobytes())
        if key not in seen:
            seen[key] = frozenset(zip(role.texts(), slide.texts(), strict=True))
        found[task] = seen[key]
    return found


def _on_wrong_sides(trial: StoredTrial, columns: Columns, tables: Tables) -> Iterator[str]:
    """Patients that were predicted on two sides, or on another side than the split's."""
    fold = trial.info["fold"]
    sides: dict[str, set[str]] = defaultdict(set)
    pairs = np.unique(np.stack([columns.patient_id.codes, columns.role.codes]), axis=1)
    for patient, role in pairs.T.tolist():
        sides[columns.patient_id.values[patient]].add(columns.role.values[role])
    both = sorted(patient for patient, roles in sides.items() if len(roles) > 1)
    if both:
        yield f"holds {len(both)} patient(s) on two sides: {some(both)}"
    if not tables.roles:
        return
    if fold >= len(tables.roles):
        yield f"is of fold {fold}, and the split has {len(tables.roles)} folds"
        return
    right = tables.roles[fold]
    wrong = sorted(patient for patient, roles in sides.items() if roles != {right.get(patient)} and patient not in both)
    if wrong:
        first = wrong[0]
        told = right.get(first, "no side")
        yield (
            f"holds {len(wrong)} patient(s) on another side than the split's fold {fold}, first {first}: "
            f"{' and '.join(sorted(sides[first]))} here, {told} there"
        )


def _other_labels(trial: StoredTrial, columns: Columns, tables: Tables) -> Iterator[str]:
    """Targets that are not the labels of the run, and slides of another patient."""
    if tables.labels is None:
        return
    labels, slides = tables.labels, np.array(columns.slide_id.values, dtype=object)
    unknown = sorted(set(columns.slide_id.used()) - set(labels.index))
    if unknown:
        yield f"holds {len(unknown)} slide(s) that the labels do not: {some(unknown)}"
        return
    place = labels.index.get_indexer(slides)[columns.slide_id.codes]
    patients = labels["patient_id"].to_numpy(dtype=object)[place]
    if (patients != columns.patient_id.texts()).any():
        first = columns.slide_id.texts()[patients != columns.patient_id.texts()][0]
        yield f"gives slide {first} to another patient than the labels do"
    for task, fitted in trial.endpoint_of.items():
        rows = columns.task.are(task)
        if task not in labels or not rows.any():
            continue
        other = _differ(labels[task].to_numpy(dtype=float)[place[rows]], columns, rows, fitted.kind)
        if other.any():
            first = np.flatnonzero(other)[0]
            slide, patient = (column.texts()[rows][first] for column in (columns.slide_id, columns.patient_id))
            yield (
                f"holds {len(set(columns.slide_id.texts()[rows][other]))} label(s) of {task} that are not those of "
                f"{tables.label_file}, first slide {slide} of patient {patient}"
            )


def _differ(labels: NDArray[np.float64], columns: Columns, rows: NDArray[np.bool_], kind: str) -> NDArray[np.bool_]:
    """[n] where a target is not the label."""
    targets = columns.target[rows]
    if kind != "survival":
        return ~_same(labels, targets)
    return ~(_same(time_of(labels), targets) & _same(event_of(labels), columns.event[rows]))


def _same(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isclose(a, b, rtol=1e-12, atol=0, equal_nan=True)
