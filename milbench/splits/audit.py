"""Audit: what a split gives every task in every fold; a leak is an error before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.cohorts.bag_names import SLIDE
from milbench.endpoints.endpoint import ALL_BINARY, BINARY, WITH_CLASSES, Endpoint, time_of
from milbench.errors import SplitError
from milbench.labels.finding import WARNING, Finding, some
from milbench.splits.table import ROLES, Split

FIX = "Use another split or leave the task out."

TWO_SIDED = ("binary", "survival")

FEWEST_SCORES = 3
"""Of two points every correlation is 1."""


@dataclass(frozen=True, eq=False)
class Audit:
    """What a split gives every task in every fold.

    Attributes
    ----------
    table : DataFrame fold, role, patients, slides, task, positives, negatives, kind, counts. `counts` are slides by
        class; censored and events; known scores. `positives` and `negatives` are events and censored for survival, and
        NaN for tasks that have neither.
    findings : one for each fold and side on which a task can't be learned or gets no score.
    """

    table: pd.DataFrame
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The findings, one line each."""
        return tuple(finding.what for finding in self.findings)


class Side(NamedTuple):
    """One task on one side of a fold.

    Attributes
    ----------
    labels : of slides; NaN = unknown.
    counts : see `Audit`.
    """

    task: str
    endpoint: Endpoint
    fold: int
    role: str
    labels: NDArray[np.float64]
    counts: tuple[int, ...]
    bag: str

    def row(self, n_patients: int) -> dict[str, Any]:
        """The side's row of the table."""
        negatives, positives = self.counts if self.endpoint.kind in TWO_SIDED else (np.nan, np.nan)
        return {
            "fold": self.fold,
            "role": self.role,
            "patients": n_patients,
            "slides": len(self.labels),
            "task": self.task,
            "positives": positives,
            "negatives": negatives,
            "kind": self.endpoint.kind,
            "counts": self.counts,
        }


def audit(
    split: Split,
    slides: pd.DataFrame,
    tasks: Sequence[str],
    endpoints: Mapping[str, Endpoint] = ALL_BINARY,
    bag: str = SLIDE,
) -> Audit:
    """Counts by fold, role and task.

    Parameters
    ----------
    bag : what one row of `slides` is, "slide" or "patient".

    Raises
    ------
    SplitError : a patient stands in two rows, has no row, or a side of a fold is empty.
    """
    _refuse_leaks(split, slides)
    rows, findings = [], []
    for fold in range(split.n_folds):
        for role in ROLES:
            side = split.slides(slides, fold, role)
            if side.empty:
                raise SplitError(f"fold {fold} of the {split.protocol} split has no {role} {bag}s. Use another split.")
            n_patients = side["patient_id"].nunique()
            for each in _sides(side, fold, role, tasks, endpoints, bag):
                rows.append(each.row(n_patients))
                findings += [Finding(WARNING, text, FIX, each.task) for text in _lacks(each)]
    return Audit(pd.DataFrame(rows), tuple(findings))


def _sides(
    side: pd.DataFrame, fold: int, role: str, tasks: Sequence[str], endpoints: Mapping[str, Endpoint], bag: str
) -> Iterator[Side]:
    # [slides, tasks]; column by column takes seconds for thousands
    labels = side[list(tasks)].to_numpy(dtype=float)
    negatives, positives = ((labels == value).sum(axis=0).tolist() for value in (0, 1))
    for place, task in enumerate(tasks):
        endpoint = endpoints.get(task, BINARY)
        is_binary = endpoint.kind == "binary"
        counts = (negatives[place], positives[place]) if is_binary else _counts(endpoint, labels[:, place])
        yield Side(task, endpoint, fold, role, labels[:, place], counts, bag)


def _counts(endpoint: Endpoint, labels: NDArray[np.float64]) -> tuple[int, ...]:
    """Slides by class; censored and events; known scores."""
    if endpoint.kind in WITH_CLASSES:
        return tuple(int((labels == place).sum()) for place in range(len(endpoint.classes)))
    if endpoint.kind == "survival":
        return int((labels < 0).sum()), int((labels > 0).sum())
    return (int((~np.isnan(labels)).sum()),)


def _refuse_leaks(split: Split, slides: pd.DataFrame) -> None:
    twice = split.table.loc[split.table["patient_id"].duplicated(), "patient_id"]
    if len(twice):
        raise SplitError(
            f"patient {twice.iloc[0]} stands in {split.protocol} more than once and could be on two sides. "
            "Keep one row per patient."
        )
    missing = set(slides["patient_id"]) - set(split.table["patient_id"])
    if missing:
        raise SplitError(
            f"{len(missing)} patients have no role in the split {split.protocol} ({', '.join(sorted(missing)[:3])}). "
            "Add them or make another split."
        )


# ---- what a side lacks -----------------------------------------------------------------------------


def _lacks(side: Side) -> list[str]:
    """A line where the side lacks what its task needs for learning, or for its score."""
    if side.endpoint.kind in WITH_CLASSES:
        return _lacking_classes(side)
    if side.endpoint.kind == "survival":
        return _lacking_events(side)
    if side.endpoint.kind == "regression":
        return _lacking_scores(side)
    negatives, positives = side.counts
    told = f"{side.task} has {positives} positive and {negatives} negative {_where(side)}"
    return [] if negatives and positives else [f"{told}: it {_follows(side.role, 'AUROC')}"]


def _lacking_classes(side: Side) -> list[str]:
    counts = side.counts
    absent = [name for name, count in zip(side.endpoint.classes, counts, strict=True) if not count]
    are_compared = sum(map(bool, counts)) > 1
    if not absent or (side.endpoint.kind == "ordinal" and side.role != "train" and are_compared):
        return []  # kappa takes all grades of the cohort, so a side without one has a kappa
    metric = "macro AUROC" if side.endpoint.kind == "multiclass" else "kappa"
    follows = f"it {_follows(side.role, metric)}"
    if side.role == "train" and are_compared:
        follows = "no model can learn to predict that"
    return [f"{side.task} has no {some(absent, 5)} among its {sum(counts)} {_where(side)}: {follows}"]


def _lacking_events(side: Side) -> list[str]:
    censored, events = side.counts
    times = len(np.unique(time_of(side.labels[side.labels > 0])))
    if side.role == "train" and events and times == 1:
        return [
            f"{side.task} has all its {events} events at one time among the {_where(side)}: no time bins can be cut"
        ]
    told = f"{side.task} has no event and {censored} censored {_where(side)}"
    return [] if events else [f"{told}: it {_follows(side.role, 'c-index')}"]


def _lacking_scores(side: Side) -> list[str]:
    known = side.counts[0]
    values = len(np.unique(side.labels[~np.isnan(side.labels)]))
    fewest = 2 if side.role == "train" else FEWEST_SCORES
    if known >= fewest and values > 1:
        return []
    told = (
        f"{side.task} has {known} known value{'s' * (known != 1)}, {values} of them different, among the {_where(side)}"
    )
    return [f"{told}: it {_follows(side.role, 'correlation')}"]


def _where(side: Side) -> str:
    return f"{side.role} {side.bag}s in fold {side.fold}"


def _follows(role: str, metric: str) -> str:
    what = {
        "train": "cannot learn",
        "val": f"gets no validation {metric}",
        "test": f"gets no test {metric} (NaN, left out of means)",
    }
    return what[role]
