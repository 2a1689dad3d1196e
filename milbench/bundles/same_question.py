"""Same question: whether runs of several people asked the same of a cohort, so that their models can stand in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from milbench.bundles.run_tables import Tables, read_tables
from milbench.endpoints.endpoint import Endpoint
from milbench.labels.finding import some
from milbench.store.run import Run
from milbench.store.trial import StoredTrial


@dataclass(frozen=True, eq=False)
class Side:
    """What one person brings to a comparison.

    Attributes
    ----------
    label : how the person's run is called in tables; distinct.
    run : as it is now.
    salt : of its ids, if they are keyed hashes; else "".
    """

    label: str
    run: Run
    salt: str = ""

    @cached_property
    def _tables(self) -> dict[str, Tables]:
        return {name: read_tables(self.run, name) for name in self.run.datasets}

    def tables(self, dataset: str) -> Tables:
        """Split and labels of a cohort."""
        return self._tables[dataset]

    def trials(self, dataset: str) -> list[StoredTrial]:
        """Finished trials of a cohort."""
        return [trial for trial in self.run.trials() if trial.info["dataset"] == dataset]

    def endpoints(self, dataset: str) -> dict[str, Endpoint]:
        """What each trained task of a cohort asks."""
        return {task: fitted.endpoint for trial in self.trials(dataset) for task, fitted in trial.endpoint_of.items()}

    def places(self, dataset: str, what: str) -> list[int]:
        """Folds, or seeds, that were trained, ascending."""
        return sorted({int(trial.info[what]) for trial in self.trials(dataset)})

    @cached_property
    def datasets(self) -> list[str]:
        """Cohorts with finished trials."""
        return sorted({str(trial.info["dataset"]) for trial in self.run.trials()})


def shared_tasks(sides: Sequence[Side], dataset: str) -> list[str]:
    """Tasks that all sides trained, in the order of the first one's cohort."""
    found = set.intersection(*(set(side.endpoints(dataset)) for side in sides))
    first = sides[0].run.datasets[dataset]["tasks"]
    return [task for task in first if task in found] + sorted(found - set(first))


def reasons_against(first: Side, other: Side, dataset: str) -> list[str]:
    """Why two sides can't be compared on a cohort, each in a sentence; none if they can."""
    wrong = [f"{side.label}: {file} {what}" for side in (first, other) for file, what in side.tables(dataset).wrong]
    if wrong:
        return wrong
    tasks = shared_tasks([first, other], dataset)
    if not tasks:
        return [f"{first.label} and {other.label} have no task in common"]
    found = list(_of_splits(first, other, dataset))
    if not found:
        found = [*_of_places(first, other, dataset), *_of_labels(first, other, dataset, tasks)]
    return found or list(_of_test_sides(first, other, dataset, tasks))


def _of_splits(first: Side, other: Side, dataset: str) -> Iterator[str]:
    ours, theirs = (side.tables(dataset).roles for side in (first, other))
    names = f"{first.label} and {other.label}"
    if not ours or not theirs:
        if first.run.datasets[dataset]["split_sha256"] != other.run.datasets[dataset]["split_sha256"]:
            yield f"{names} have other splits, and not both keep their table"
        return
    if len(ours) != len(theirs):
        yield f"the split of {first.label} has {len(ours)} folds, that of {other.label} {len(theirs)}"
        return
    patients = [set(side[0]) for side in (ours, theirs)]
    if not patients[0] & patients[1]:
        hint = "; their ids are keyed with different salts" if first.salt != other.salt else ""
        yield f"{names} have no patient in common{hint}"
        return
    for mine, label in ((patients[0] - patients[1], first.label), (patients[1] - patients[0], other.label)):
        if mine:
            yield f"{len(mine)} patient(s) are in the split of {label} alone: {some(sorted(mine))}"
    moved = [
        (patient, fold)
        for patient in sorted(patients[0] & patients[1])
        for fold in range(len(ours))
        if ours[fold][patient] != theirs[fold][patient]
    ]
    if moved:
        patient, fold = moved[0]
        yield (
            f"{len({each for each, _ in moved})} patient(s) stand on other sides: "
            f"{some(list(dict.fromkeys(each for each, _ in moved)))}. {patient} is in {ours[fold][patient]} of fold {fold} "
            f"in {first.label}, and in {theirs[fold][patient]} in {other.label}"
        )


def _of_places(first: Side, other: Side, dataset: str) -> Iterator[str]:
    """Folds must be the same; of seeds there must be as many."""
    ours, theirs = first.places(dataset, "fold"), other.places(dataset, "fold")
    if ours != theirs:
        yield f"{first.label} trained folds {', '.join(map(str, ours))}, and {other.label} {', '.join(map(str, theirs))}"
    n_ours, n_theirs = (len(side.places(dataset, "seed")) for side in (first, other))
    if n_ours != n_theirs:
        yield f"{first.label} trained {n_ours} seed(s), and {other.label} {n_theirs}"


def _of_labels(first: Side, other: Side, dataset: str, tasks: Sequence[str]) -> Iterator[str]:
    ours, theirs = (side.endpoints(dataset) for side in (first, other))
    for task in tasks:
        if ours[task] != theirs[task]:
            yield f"{task} asks something else: {ours[task].as_dict()} in {first.label}, {theirs[task].as_dict()} in {other.label}"
    mine, others = first.tables(dataset).labels, other.tables(dataset).labels
    if mine is None or others is None:
        return
    shared = mine.index.intersection(others.index)
    mine, others = mine.loc[shared], others.loc[shared]
    for task in tasks:
        if task not in mine or task not in others:
            continue
        a, b = (table[task].to_numpy(dtype=float) for table in (mine, others))
        differ = ~np.isclose(a, b, rtol=1e-12, atol=0, equal_nan=True)
        if differ.any():
            at = int(np.flatnonzero(differ)[0])
            patients = sorted(set(mine["patient_id"].to_numpy(dtype=object)[differ]))
            yield (
                f"labels of {task} differ for {len(patients)} patient(s): {some(patients)}. {shared[at]} has {a[at]:g} in "
                f"{first.label} and {b[at]:g} in {other.label}"
            )


def _of_test_sides(first: Side, other: Side, dataset: str, tasks: Sequence[str]) -> Iterator[str]:
    """Slides with a known label that one side tested and the other did not, in the first fold and task where they differ."""
    ours, theirs = (_tested(side, dataset) for side in (first, other))
    for fold in first.places(dataset, "fold"):
        for task in tasks:
            a, b = ours.get((fold, task), {}), theirs.get((fold, task), {})
            for alone, label in ((a.keys() - b.keys(), first.label), (b.keys() - a.keys(), other.label)):
                if alone:
                    patients = sorted({(a | b)[slide] for slide in alone})
                    yield (
                        f"{len(alone)} slide(s) of {task} were tested in fold {fold} of {label} alone, of patient(s) {some(patients)}"
                    )
                    return


def _tested(side: Side, dataset: str) -> dict[tuple[int, str], dict[str, str]]:
    """Patient by slide on the test side, by fold and task."""
    found: dict[tuple[int, str], dict[str, str]] = {}
    for trial in side.trials(dataset):
        columns = trial.answer_columns()
        columns = columns.where(columns.role.are("test") & ~np.isnan(columns.target))
        slides, patients = columns.slide_id.texts(), columns.patient_id.texts()
        for task in columns.task.used():
            rows = columns.task.are(task)
            here = found.setdefault((int(trial.info["fold"]), task), {})
            here.update(zip(slides[rows], patients[rows], strict=True))
    return found
