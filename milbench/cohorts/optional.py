"""Optional tasks: those of a cohort that are learned only if a command names them.

Their labels are no part of the cohort's fingerprint, and no split is drawn from them. So the trials of all other tasks are
the same trials with them and without. A trial that learns one holds the hash of its labels in its identity instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from milbench.endpoints.endpoint import Endpoint
from milbench.store.csv_files import exact_csv
from milbench.store.identity import canonical_json

GROUP = "endpoints"
"""What `--tasks` takes for all optional tasks of each cohort."""


@dataclass(frozen=True)
class OptionalTask:
    """What a cohort knows of an optional task, beside the labels and the kind.

    Attributes
    ----------
    labels_sha256 : of the labels of the cohort's slides and of what the task asks.
    notes : where the labels come from and how many are known, for the run's log.
    """

    labels_sha256: str
    notes: tuple[str, ...] = ()


def labels_sha256(slides: pd.DataFrame, task: str, endpoint: Endpoint) -> str:
    """SHA-256 of one task's labels, slide by slide, and of what they are the labels of."""
    text = exact_csv(slides[["slide_id", task]]) + canonical_json(endpoint.as_dict())
    return hashlib.sha256(text.encode()).hexdigest()


def labels_of(optional: Mapping[str, OptionalTask], tasks: Sequence[str]) -> dict[str, str]:
    """Hashes of the labels of those tasks that are optional; empty if none is."""
    return {task: optional[task].labels_sha256 for task in tasks if task in optional}
