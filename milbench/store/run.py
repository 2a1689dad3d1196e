"""Store: one folder per finished trial, below one folder per run. Predictions are the truth.

::

    runs/digits/
      run.yaml  environment.json  datasets.json  plan.json
      questions.json             what is asked of each dataset now, and what was asked before
      splits/digits.csv  labels/digits.csv
      features/digits.json       size, time and SHA-256 of each feature file, if the dataset has files
      splits/<hash>/digits.csv   a split that the dataset had before
      trials/digits/amil/has_0/fold0-seed42-1f3a9c02/
        predictions.parquet  history.parquet  model.safetensors  trial.json (last, with checksums)
      failures/<key>.json        what went wrong, until the trial succeeds
      locks/<key>.lock           held by the process that computes the trial
      claims/<key>.json          says which process that is
      checkpoints/               where trainings that are not done have got to
      partial/                   trials being written; a killed process leaves them to the next claim

A trial's folder appears by one atomic rename. This module knows no training and reaches no torch.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from milbench.errors import StoreError
from milbench.names import by_folder
from milbench.store.claims import claimed
from milbench.store.files import json_bytes, read, replacing_folder, text_table, write_atomically, writing
from milbench.store.question import (
    Asked,
    Question,
    StaleTrial,
    asked_from_json,
    asked_of_old_folder,
    asked_to_json,
    differences,
)
from milbench.store.slot import Slot, slot_of
from milbench.store.trial import TRIAL, StoredTrial, fill_trial_folder, read_trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd

PLAN, CONFIG, ENVIRONMENT, DATASETS = "plan.json", "run.yaml", "environment.json", "datasets.json"
QUESTIONS = "questions.json"
RUN_FORMAT = 1
"""Version of the format, raised when an older milbench could misread the folder; 0 = a folder that states none, read alike."""

PARTIAL, CLAIMS, SPLITS, FEATURES = "partial", "claims", "splits", "features"

PREDICTION_COLUMNS = (
    "dataset", "model", "task", "fold", "seed", "slide_id", "patient_id", "role", "target", "probability",
)  # fmt: skip
"""What `Run.predictions` has, one row per trial, slide and task."""


class Run:
    """A run folder: finished trials, failures, configuration."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration (run.yaml)."""
        return dict(read(self.path / CONFIG, yaml.safe_load))

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, commit and hardware (environment.json)."""
        return dict(read(self.path / ENVIRONMENT, json.loads))

    @cached_property
    def datasets(self) -> dict[str, Any]:
        """What the report needs of every cohort (datasets.json)."""
        return dict(read(self.path / DATASETS, json.loads))

    def __repr__(self) -> str:
        try:
            slots = self.slots()
        except (StoreError, ValueError):
            return f"Run({self.path}: {PLAN} is damaged)"
        # files are counted and not read: a line must not take the time that checksums take
        done = sum((self._folder(slot.trial_id) / TRIAL).exists() for slot in slots)
        models, datasets = {slot.model for slot in slots}, dict.fromkeys(slot.dataset for slot in slots)
        return f"Run({self.path}: {done} of {len(slots)} trials done, {len(models)} models on {', '.join(datasets)})"

    def planned(self) -> dict[str, str]:
        """Trial id by slot: what the newest plan asks for; older trials of a slot are stale."""
        path = self.path / PLAN
        return dict(read(path, json.loads)) if path.exists() else {}

    def slots(self) -> list[Slot]:
        """The grid of the newest plan, in its order."""
        planned = self.planned()
        facts = self.datasets.values() if planned else ()
        names = by_folder(name for fact in facts for name in (*fact.get("models", ()), *fact.get("tasks", ())))
        return [slot_of(name, trial_id, names) for name, trial_id in planned.items()]

    def trials(self) -> list[StoredTrial]:
        """Finished, intact trials of the plan that answer what is asked now, sorted by id."""
        asked = self.asked()
        stored = (self.trial(trial_id) for trial_id in sorted(self.planned().values()))
        return [trial for trial in stored if trial is not None and not differences(asked, trial.info)]

    def asked(self) -> dict[str, Asked]:
        """What is asked of each dataset now, and what was asked before."""
        path = self.path / QUESTIONS
        if path.exists():
            return dict(read(path, lambda text: asked_from_json(json.loads(text))))
        if not (self.path / DATASETS).exists():
            return {}
        infos = filter(None, map(self._record, self.planned().values()))
        return asked_of_old_folder(self.datasets, self.config.get("trainer") or {}, infos)

    def stale(self) -> list[StaleTrial]:
        """Trials in the folder that answer another question than the one asked now, sorted by id."""
        asked, planned = self.asked(), set(self.planned().values())
        found = []
        for path in sorted((self.path / "trials").glob(f"*/*/*/*/{TRIAL}")):
            trial_id = path.parent.relative_to(self.path / "trials").as_posix()
            info = self._record(trial_id)
            if info is None:
                continue
            other = differences(asked, info)
            if other or trial_id not in planned:
                found.append(StaleTrial(trial_id, path.parent, info, other or ("an earlier plan",)))
        return found

    def delete_stale(self, trial: StaleTrial) -> None:
        """Delete a trial of another question."""
        with writing(self.path):
            shutil.rmtree(trial.path)

    def _record(self, trial_id: str) -> dict[str, Any] | None:
        """What the trial's `trial.json` holds, its checksums not verified; None if there is none to read."""
        try:
            info = json.loads((self._folder(trial_id) / TRIAL).read_text())
        except (OSError, ValueError):
            return None
        return info if isinstance(info, dict) else None

    def trial(self, trial_id: str) -> StoredTrial | None:
        """The finished trial, or None where it is absent, half-written or damaged."""
        return read_trial(self._folder(trial_id), trial_id)

    def predictions(self) -> pd.DataFrame:
        """One table of every finished trial's predictions, in the order of trial ids, with `PREDICTION_COLUMNS`."""
        import pandas as pd

        tables = [
            trial.predictions().assign(**{name: trial.info[name] for name in ("dataset", "model", "fold", "seed")})
            for trial in self.trials()
        ]
        every = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=PREDICTION_COLUMNS)
        return every[list(PREDICTION_COLUMNS)]

    def failures(self) -> list[dict[str, Any]]:
        """Recorded failures of planned trials that answer what is asked now, sorted by trial id."""
        planned, asked = set(self.planned().values()), self.asked()
        rows: list[dict[str, Any]] = []
        for path in (self.path / "failures").glob("*.json"):
            try:
                rows.append(read(path, json.loads))
            except StoreError:
                if path.exists():  # else another process has tried the trial again meanwhile, with success
                    raise
        current = (row for row in rows if row["id"] in planned and not differences(asked, row.get("identity", {})))
        return sorted(current, key=lambda row: str(row["id"]))

    def failure(self, key: str) -> dict[str, Any]:
        """The recorded failure of one trial."""
        return dict(read(self.path / "failures" / f"{key}.json", json.loads))

    def has_failed(self, key: str) -> bool:
        """Whether a failure of the trial is on record."""
        return (self.path / "failures" / f"{key}.json").exists()

    def split_file(self, dataset: str) -> Path:
        """Path of the dataset's split table."""
        return self.path / SPLITS / f"{dataset}.csv"

    def former_split_file(self, dataset: str, sha256: str) -> Path:
        """Path of a split table that the dataset had before."""
        return self.path / SPLITS / sha256[:8] / f"{dataset}.csv"

    def content_file(self, dataset: str) -> Path:
        """Where it stands what the dataset's feature files hold; datasets without files and older runs have none."""
        return self.path / FEATURES / f"{dataset}.json"

    def label_file(self, dataset: str) -> Path:
        """Path of the dataset's labels; runs of older versions have none."""
        return self.path / "labels" / f"{dataset}.csv"

    def labels(self, dataset: str) -> pd.DataFrame:
        """Labels of the dataset's slides: slide_id, patient_id, one column per task in {0, 1, NaN}.

        Raises
        ------
        StoreError : there are none, or they can't be read.
        """
        table = read(self.label_file(dataset), text_table)
        tasks = [column for column in table.columns if column not in ("slide_id", "patient_id")]
        return table.assign(**{task: table[task].replace("", "nan").astype(float) for task in tasks})

    def roles(self, dataset: str) -> pd.DataFrame:
        """The dataset's split: patient_id, fold_0 .. in {train, val, test}.

        Raises
        ------
        StoreError : there is none, or it can't be read.
        """
        table: pd.DataFrame = read(self.split_file(dataset), text_table)
        return table

    def snapshot(self) -> Run:
        """The run as it is now: its trials are found and their checksums verified once, not at every look."""
        return _Snapshot(self.path)

    # ---- writing -------------------------------------------------------------------------------

    def write_header(
        self,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        datasets: Mapping[str, Any],
        plan: Mapping[str, str],
        questions: Mapping[str, Question] | None = None,
    ) -> None:
        """Describe the run; datasets and planned trials add to those that earlier calls left.

        A question takes the place of the dataset's former one; trials that do not answer it are stale from then on.

        Raises
        ------
        StoreError : the folder cannot be written.
        """
        with writing(self.path):
            for folder in ("trials", "failures", "locks", SPLITS, "labels", PARTIAL):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            with FileLock(self.path / "locks" / "header.lock"):
                write_atomically(self.path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False).encode())
                write_atomically(self.path / ENVIRONMENT, json_bytes({**environment, "run_format": RUN_FORMAT}))
                asked = self.asked()  # of an older folder it follows from what is overwritten here
                now = {
                    name: asked[name].then(question) if name in asked else Asked(question)
                    for name, question in (questions or {}).items()
                }
                known = json.loads((self.path / DATASETS).read_text()) if (self.path / DATASETS).exists() else {}
                write_atomically(self.path / DATASETS, json_bytes({**known, **datasets}))
                write_atomically(self.path / PLAN, json_bytes({**self.planned(), **plan}))
                write_atomically(self.path / QUESTIONS, json_bytes(asked_to_json({**asked, **now})))

    def write_trial(
        self,
        trial_id: str,
        info: Mapping[str, Any],
        predictions: pd.DataFrame,
        history: pd.DataFrame,
        weights: Mapping[str, np.ndarray[Any, Any]] | None,
    ) -> None:
        """Put a finished trial in place by one rename; a damaged folder of that name gives way.

        Raises
        ------
        StoreError : the disk is full or the folder cannot be written.
        """
        with writing(self.path), replacing_folder(self._folder(trial_id), self._partial(info["key"])) as folder:
            fill_trial_folder(folder, {**info, "id": trial_id}, predictions, history, weights)

    def adopt(self, trial: StoredTrial) -> None:
        """Put another run's finished trial in place, byte for byte, by one rename; an intact one here stays.

        Raises
        ------
        StoreError : the disk is full or the folder cannot be written.
        """
        if self.trial(trial.id) is not None:
            return
        key = trial.info["key"]
        with writing(self.path), replacing_folder(self._folder(trial.id), self._partial(key)) as folder:
            shutil.copytree(trial.path, folder, dirs_exist_ok=True)

    def write_failure(self, key: str, record: Mapping[str, Any]) -> None:
        """Record why a trial failed; a failure never counts as done."""
        with writing(self.path):
            write_atomically(self.path / "failures" / f"{key}.json", json_bytes(record))

    def clear_failure(self, key: str) -> None:
        """Forget a failure, because the trial is tried again or has succeeded."""
        with writing(self.path):
            (self.path / "failures" / f"{key}.json").unlink(missing_ok=True)

    def _folder(self, trial_id: str) -> Path:
        return self.path / "trials" / trial_id

    def _partial(self, key: str) -> Path:
        """Folder in which a trial is written until it is whole; `claim` sweeps those that a killed process left."""
        return self.path / PARTIAL / f"{key}-{uuid.uuid4().hex}"

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process now holds the trial; the system lets go of it when the process dies."""
        lock = FileLock(self.path / "locks" / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            for leftover in (self.path / PARTIAL).glob(f"{key}-*"):  # of a process that was killed while it wrote
                shutil.rmtree(leftover, ignore_errors=True)
            with claimed(self.path / CLAIMS, key):
                yield True
        finally:
            lock.release()


class _Snapshot(Run):
    def snapshot(self) -> Run:
        return self

    def trials(self) -> list[StoredTrial]:
        return list(self._found)

    @cached_property
    def _found(self) -> tuple[StoredTrial, ...]:
        return tuple(super().trials())


def open_run(path: Path) -> Run:
    """The run stored in `path`.

    Raises
    ------
    StoreError : there is no run there, or one of a newer format.
    """
    if not (path / CONFIG).is_file():
        near = sorted(p.parent.name for p in path.parent.glob(f"*/{CONFIG}")) if path.parent.is_dir() else []
        raise StoreError(
            f"{path} holds no run ({CONFIG} is missing). Runs in {path.parent}: {', '.join(near) or 'none'}."
        )
    run = Run(path)
    if (path / ENVIRONMENT).exists() and run.environment.get("run_format", 0) > RUN_FORMAT:
        raise StoreError(
            f"{path} was written by milbench {run.environment.get('milbench', '?')}, whose run folders this version "
            "cannot read. Update milbench, or choose another folder with --run."
        )
    return run
