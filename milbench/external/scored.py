"""Scored: what the trials of a run say of an external cohort, one folder per trial beside the run's own.

::

    RUN/external/COHORT/
        content.json                                       what the cohort's feature files hold
        trials/DATASET/MODEL/TASKS/fold0-seed42-1f3a9c02/
            predictions.parquet                            as the trial's own, every slide on the side "test"
            external.json                                  which trial, which cohort, checksums; written last

A folder counts only if the trial, its weights, the cohort and the labels are the same, and its file is whole. Whatever
else lies there is computed again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from milbench.endpoints.fitted import FittedEndpoint
from milbench.errors import StoreError
from milbench.store.columns import Columns, columns_of
from milbench.store.files import (
    file_sha256,
    inside,
    json_bytes,
    refuse_no_plain_file,
    replacing_folder,
    temporary_name,
    writing,
)
from milbench.store.headers import read_json
from milbench.store.payload import refuse_other_answers, refuse_other_predictions
from milbench.store.run import Run
from milbench.store.run_folder import EXTERNAL, LOCKS, PARTIAL, TRIALS
from milbench.store.shape import fields, mapping_of, name, number, sha256, text
from milbench.store.slot import id_parts
from milbench.store.trial import PREDICTIONS, WEIGHTS, StoredTrial

if TYPE_CHECKING:
    import pandas as pd

RECORD = "external.json"
CONTENT = "content.json"

RECORD_SHAPE = fields(
    {
        "id": text,
        "trial": sha256,
        "cohort": name,
        **dict.fromkeys(("fingerprint", "slides_sha256"), text),
        "n_slides": number,
        "payload_sha256": mapping_of(name, sha256),
    },
    {"weights": text, "labels_sha256": mapping_of(text, sha256), "device": text},
)
"""Of external.json."""


@dataclass(frozen=True)
class CohortIdentity:
    """What decides which slides are scored, and against which labels.

    Attributes
    ----------
    name : of the cohort.
    fingerprint : of its labels and of what its feature files hold.
    labels_sha256 : of labels that the fingerprint does not cover.
    slides_sha256 : of the slides and labels that are scored, in their order and in the classes of the training.
    """

    name: str
    fingerprint: str
    labels_sha256: Mapping[str, str]
    slides_sha256: str

    def of_trial(self, trial: StoredTrial) -> dict[str, Any]:
        """What must be the same for stored scores of the trial to count."""
        return {
            "id": trial.id,
            "trial": trial.info["key"],
            "weights": trial.info["payload_sha256"].get(WEIGHTS, ""),
            "cohort": self.name,
            "fingerprint": self.fingerprint,
            "labels_sha256": dict(self.labels_sha256),
            "slides_sha256": self.slides_sha256,
        }


@dataclass(frozen=True, repr=False)
class PartOfTrial(StoredTrial):
    """A trial of the run with those of its tasks that the external cohort has labels of.

    Attributes
    ----------
    evaluated : those tasks.
    """

    evaluated: tuple[str, ...]

    @property
    def endpoint_of(self) -> dict[str, FittedEndpoint]:
        """Endpoint by task."""
        return {task: fitted for task, fitted in super().endpoint_of.items() if task in self.evaluated}


@dataclass(frozen=True, repr=False)
class ScoredTrial(PartOfTrial):
    """A trial whose test side is an external cohort. Its validation side is the run's, so thresholds are the run's too.

    Attributes
    ----------
    own : the trial in the run.
    """

    own: StoredTrial

    def answers(self) -> pd.DataFrame:
        """Rows as `StoredTrial.answers`: the run's validation side, and the external cohort as the test side."""
        import pandas as pd

        own = self.own.answers()
        return pd.concat([own[own["role"] == "val"], super().answers()], ignore_index=True)

    def answer_columns(self) -> Columns:
        """The same rows as arrays."""
        return columns_of(self.answers())


def external_folder(run: Run, cohort: str) -> Path:
    """Folder of the cohort, which need not be there."""
    return inside(run.path, EXTERNAL, cohort)


def scored_folder(run: Run, cohort: str, trial_id: str) -> Path:
    """Folder of what a trial says of the cohort, which need not be there."""
    return inside(run.path, EXTERNAL, cohort, TRIALS, *id_parts(trial_id))


def read_scored(run: Run, identity: CohortIdentity, trial: StoredTrial, evaluated: Sequence[str]) -> ScoredTrial | None:
    """What is stored of the trial; None if there is nothing, if it is damaged, or of other slides, labels or weights."""
    folder = scored_folder(run, identity.name, trial.id)
    try:
        record = read_json(folder / RECORD, RECORD_SHAPE)
        expected = identity.of_trial(trial)
        if {key: record.get(key) for key in expected} != expected:
            return None
        refuse_no_plain_file(folder / PREDICTIONS)
        if file_sha256(folder / PREDICTIONS) != record["payload_sha256"].get(PREDICTIONS):
            return None
        n_slides = {"test": record["n_slides"], "val": 0}
        if trial.endpoints:
            refuse_other_answers(folder / PREDICTIONS, trial.info["tasks"], trial.endpoints, n_slides)
        else:
            refuse_other_predictions(folder / PREDICTIONS, trial.info["tasks"], n_slides)
    except (StoreError, OSError, ValueError):
        return None
    return ScoredTrial(folder, trial.id, trial.info, tuple(evaluated), trial)


def adopt_scores(merged: Run, other: Run) -> int:
    """Number of scores that `other` has and `merged` lacks, copied as they are, of trials that `merged` holds.

    Whether they are of the cohort as it is now, `milbench evaluate` finds out, as of scores of its own.

    Raises
    ------
    StoreError : the disk is full or the folder cannot be written.
    """
    n_adopted = 0
    for path in sorted(other.path.glob(f"{EXTERNAL}/*/{TRIALS}/**/{RECORD}")):
        record = _adopted_record(merged, path)
        if record is not None:
            final = scored_folder(merged, record["cohort"], record["id"])
            partial = inside(merged.path, PARTIAL, temporary_name(f"external-{record['trial'][:16]}"))
            with writing(merged.path), replacing_folder(final, partial) as folder:
                for name in (PREDICTIONS, RECORD):
                    shutil.copyfile(path.with_name(name), folder / name)
            n_adopted += 1
    return n_adopted


def _adopted_record(merged: Run, path: Path) -> Mapping[str, Any] | None:
    """The record at `path` if its scores are whole, of a trial that `merged` holds, and not there yet."""
    with suppress(StoreError, OSError, ValueError):
        record: Mapping[str, Any] = read_json(path, RECORD_SHAPE)
        refuse_no_plain_file(path.with_name(PREDICTIONS))
        own = merged.trial(record["id"])
        is_there = (scored_folder(merged, record["cohort"], record["id"]) / RECORD).exists()
        is_whole = file_sha256(path.with_name(PREDICTIONS)) == record["payload_sha256"].get(PREDICTIONS)
        if own is not None and own.info["key"] == record["trial"] and is_whole and not is_there:
            return record
    return None


def write_scored(
    run: Run, identity: CohortIdentity, trial: StoredTrial, predictions: pd.DataFrame, device: str
) -> None:
    """Put what a trial says of the cohort in place by one rename.

    If two commands score one trial at the same time, the first one's scores stay, because the other may be reading them.

    Raises
    ------
    StoreError : the disk is full or the folder cannot be written.
    """
    final = scored_folder(run, identity.name, trial.id)
    partial = inside(run.path, PARTIAL, temporary_name(f"external-{trial.info['key'][:16]}"))
    name = hashlib.sha256(str(final.relative_to(run.path)).encode()).hexdigest()[:16]
    with writing(run.path):
        inside(run.path, LOCKS).mkdir(exist_ok=True)
        with FileLock(inside(run.path, LOCKS, f"external-{name}.lock")):
            if read_scored(run, identity, trial, ()) is None:
                _write(final, partial, identity.of_trial(trial), predictions, device)


def _write(final: Path, partial: Path, of_trial: Mapping[str, Any], predictions: pd.DataFrame, device: str) -> None:
    with replacing_folder(final, partial) as folder:
        predictions.to_parquet(folder / PREDICTIONS, index=False)
        record = {
            **of_trial,
            "n_slides": predictions["slide_id"].nunique(),
            "device": device,
            "payload_sha256": {PREDICTIONS: file_sha256(folder / PREDICTIONS)},
        }
        (folder / RECORD).write_bytes(json_bytes(record))
