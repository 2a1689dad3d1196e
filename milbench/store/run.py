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

import shutil
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
from milbench.store.files import (
    AGAIN,
    inside,
    json_bytes,
    read,
    replacing_folder,
    temporary_name,
    write_atomically,
    writing,
)
from milbench.store.headers import (
    DATASETS_SHAPE,
    ENVIRONMENT_SHAPE,
    FAILURE_SHAPE,
    QUESTIONS_SHAPE,
    plan_shape,
    read_config,
    read_json,
)
from milbench.store.leftovers import delete, leftovers
from milbench.store.question import (
    Asked,
    Question,
    StaleTrial,
    asked_from_json,
    asked_of_old_folder,
    asked_to_json,
    differences,
)
from milbench.store.run_tables import labels_from, roles_from
from milbench.store.slot import Slot, id_parts, slot_of
from milbench.store.trial import (
    TRIAL,
    StoredTrial,
    copy_trial,
    fill_trial_folder,
    read_record,
    read_trial,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd

PLAN, CONFIG, ENVIRONMENT, DATASETS = "plan.json", "run.yaml", "environment.json", "datasets.json"
QUESTIONS = "questions.json"
RUN_FORMAT = 1
"""Version of the format, raised when an older milbench could misread the folder; 0 = a folder that states none, read alike."""

PARTIAL, CLAIMS, SPLITS, LABELS, FAILURES = "partial", "claims", "splits", "labels", "failures"
FEATURES = "features"

FOLDERS = ("trials", FAILURES, "locks", SPLITS, LABELS, PARTIAL, CLAIMS, "checkpoints", "shards", FEATURES)

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
        return read_config(self.path / CONFIG)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, commit and hardware (environment.json); empty if a command was killed before it wrote the file."""
        path = self.path / ENVIRONMENT
        return dict(read_json(path, ENVIRONMENT_SHAPE)) if _is_there(path) else {}

    @cached_property
    def datasets(self) -> dict[str, Any]:
        """What the report needs of every cohort (datasets.json); empty if a command was killed before it wrote the file."""
        path = self.path / DATASETS
        return dict(read_json(path, DATASETS_SHAPE)) if _is_there(path) else {}

    def __repr__(self) -> str:
        try:
            slots = self.slots()
        except StoreError:
            return f"Run({self.path}: {PLAN} is damaged)"
        # files are counted and not read: a line must not take the time that checksums take
        done = sum((self.trial_folder(slot.trial_id) / TRIAL).exists() for slot in slots)
        models, datasets = {slot.model for slot in slots}, dict.fromkeys(slot.dataset for slot in slots)
        return f"Run({self.path}: {done} of {len(slots)} trials done, {len(models)} models on {', '.join(datasets)})"

    def planned(self) -> dict[str, str]:
        """Trial id by slot: what the newest plan asks for; older trials of a slot are stale."""
        path = self.path / PLAN
        return dict(read_json(path, plan_shape)) if _is_there(path) else {}

    def slots(self) -> list[Slot]:
        """The grid of the newest plan, in its order."""
        names = by_folder(name for facts in self.datasets.values() for name in (*facts["models"], *facts["tasks"]))
        return [slot_of(name, trial_id, names) for name, trial_id in self.planned().items()]

    def trials(self) -> list[StoredTrial]:
        """Finished, intact trials of the plan that answer what is asked now, sorted by id."""
        asked = self.asked()
        stored = (self.trial(trial_id) for trial_id in sorted(self.planned().values()))
        return [trial for trial in stored if trial is not None and not differences(asked, trial.info)]

    def asked(self) -> dict[str, Asked]:
        """What is asked of each dataset now, and what was asked before."""
        path = self.path / QUESTIONS
        if _is_there(path):
            return asked_from_json(read_json(path, QUESTIONS_SHAPE))
        if not self.datasets:
            return {}
        infos = filter(None, map(self.record, self.planned().values()))
        return asked_of_old_folder(self.datasets, self.config.get("trainer") or {}, infos)

    def stale(self) -> list[StaleTrial]:
        """Trials in the folder that answer another question than the one asked now, sorted by id."""
        asked, planned = self.asked(), set(self.planned().values())
        found = []
        for path in sorted((self.path / "trials").glob(f"*/*/*/*/{TRIAL}")):
            trial_id = path.parent.relative_to(self.path / "trials").as_posix()
            info = self.record(trial_id)
            if info is None:
                continue
            other = differences(asked, info)
            if other or trial_id not in planned:
                found.append(StaleTrial(trial_id, path.parent, info, other or ("an earlier plan",)))
        return found

    def delete_stale(self, trial: StaleTrial) -> None:
        """Delete a trial of another question."""
        with writing(self.path):
            shutil.rmtree(self.trial_folder(trial.id))

    def record(self, trial_id: str) -> dict[str, Any] | None:
        """What the trial's `trial.json` holds, its checksums not verified; None where it is absent or another's."""
        try:
            return read_record(self.trial_folder(trial_id), trial_id)
        except (FileNotFoundError, StoreError):
            return None

    def trial(self, trial_id: str) -> StoredTrial | None:
        """The finished trial, or None where it is absent, half-written or damaged."""
        try:
            return read_trial(self.trial_folder(trial_id), trial_id)
        except (FileNotFoundError, StoreError):
            return None

    def damage(self, trial_id: str, *, verify_files: bool = True) -> str:
        """Why what lies in the trial's place is not that trial; "" where it is, or where nothing lies there.

        Parameters
        ----------
        verify_files : read all its files; else only `trial.json`.
        """
        try:
            folder = self.trial_folder(trial_id)
            read_trial(folder, trial_id) if verify_files else read_record(folder, trial_id)
        except FileNotFoundError:
            return ""
        except StoreError as error:
            return str(error)
        return ""

    def damaged(self, *, verify_files: bool = True) -> dict[str, str]:
        """Why a planned trial is damaged, by its id. The run's command computes it again."""
        reasons = {id_: self.damage(id_, verify_files=verify_files) for id_ in sorted(self.planned().values())}
        return {trial_id: why for trial_id, why in reasons.items() if why}

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
        for path in sorted(inside(self.path, FAILURES).glob("*.json")):
            try:
                rows.append(_failure(path))
            except StoreError:
                if _is_there(path):  # else another process has tried the trial again meanwhile, with success
                    raise
        current = (row for row in rows if row["id"] in planned and not differences(asked, row.get("identity", {})))
        return sorted(current, key=lambda row: str(row["id"]))

    def failure(self, key: str) -> dict[str, Any]:
        """The recorded failure of one trial."""
        return _failure(self._failure_file(key))

    def has_failed(self, key: str) -> bool:
        """Whether a failure of the trial is on record."""
        return self._failure_file(key).exists()

    def _failure_file(self, key: str) -> Path:
        return inside(self.path, FAILURES) / f"{key}.json"

    def split_file(self, dataset: str) -> Path:
        """Path of the dataset's split table."""
        return inside(self.path, SPLITS, f"{dataset}.csv")

    def former_split_file(self, dataset: str, sha256: str) -> Path:
        """Path of a split table that the dataset had before."""
        return inside(self.path, SPLITS, sha256[:8], f"{dataset}.csv")

    def content_file(self, dataset: str) -> Path:
        """Where it stands what the dataset's feature files hold; datasets without files and older runs have none."""
        return inside(self.path, FEATURES, f"{dataset}.json")

    def label_file(self, dataset: str) -> Path:
        """Path of the dataset's labels; runs of older versions have none."""
        return inside(self.path, LABELS, f"{dataset}.csv")

    def labels(self, dataset: str) -> pd.DataFrame:
        """Labels of the dataset's slides: slide_id, patient_id, one column per task; NaN = unknown, a binary label is 0 or 1.

        Raises
        ------
        StoreError : there are none, they can't be read, or they are not those that the run was made with.
        """
        asked = self.asked().get(dataset)
        expected = asked.now.labels_sha256 if asked else ""
        endpoints = self.datasets.get(dataset, {}).get("endpoints", {})
        table: pd.DataFrame = read(self.label_file(dataset), lambda text: labels_from(text, expected, endpoints))
        return table

    def roles(self, dataset: str) -> pd.DataFrame:
        """The dataset's split: patient_id, fold_0 .. in {train, val, test}.

        Raises
        ------
        StoreError : there is none, it can't be read, or it is not the one that the run was made with.
        """
        expected = self.datasets[dataset]["split_sha256"] if dataset in self.datasets else ""
        table: pd.DataFrame = read(self.split_file(dataset), lambda text: roles_from(text, expected))
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
        with self.described():
            write_atomically(self.path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False).encode())
            write_atomically(self.path / ENVIRONMENT, json_bytes({**environment, "run_format": RUN_FORMAT}))
            asked = self.asked()  # of an older folder it follows from what is overwritten here
            now = {
                name: asked[name].then(question) if name in asked else Asked(question)
                for name, question in (questions or {}).items()
            }
            write_atomically(self.path / DATASETS, json_bytes({**Run(self.path).datasets, **datasets}))
            write_atomically(self.path / PLAN, json_bytes({**self.planned(), **plan}))
            write_atomically(self.path / QUESTIONS, json_bytes(asked_to_json({**asked, **now})))
            for name in ("config", "environment", "datasets"):
                self.__dict__.pop(name, None)  # what was read before is not what is there now

    @contextmanager
    def described(self) -> Iterator[None]:
        """For the length of the block this process alone writes the header; its folders are there.

        Raises
        ------
        StoreError : the folder cannot be written.
        """
        with writing(self.path):
            for folder in ("trials", FAILURES, "locks", SPLITS, LABELS, PARTIAL):
                inside(self.path, folder).mkdir(parents=True, exist_ok=True)
            with self._header_lock:
                yield

    @cached_property
    def _header_lock(self) -> FileLock:
        return FileLock(inside(self.path, "locks", "header.lock"))

    def sweep(self) -> None:
        """Delete what processes left here that were killed; what the living write stays."""
        delete(leftovers(self.path))

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
        with writing(self.path), replacing_folder(self.trial_folder(trial_id), self._partial(info["key"])) as folder:
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
        with writing(self.path), replacing_folder(self.trial_folder(trial.id), self._partial(key)) as folder:
            copy_trial(trial, folder)

    def write_failure(self, key: str, record: Mapping[str, Any]) -> None:
        """Record why a trial failed; a failure never counts as done."""
        with writing(self.path):
            write_atomically(self._failure_file(key), json_bytes(record))

    def clear_failure(self, key: str) -> None:
        """Forget a failure, because the trial is tried again or has succeeded."""
        with writing(self.path):
            self._failure_file(key).unlink(missing_ok=True)

    def has_folder(self, trial_id: str) -> bool:
        """Whether anything lies in the trial's place, even a link; what lies there may be damaged."""
        return _is_there(self.path / "trials" / trial_id)

    def has_record(self, trial_id: str) -> bool:
        """Whether the trial's place holds a `trial.json`, which is written last; nothing is verified."""
        return (self.trial_folder(trial_id) / TRIAL).exists()

    def trial_folder(self, trial_id: str) -> Path:
        """Folder of the trial, which need not be there.

        Raises
        ------
        StoreError : it is no trial's id, or a symbolic link leads elsewhere.
        """
        try:
            parts = id_parts(trial_id)
        except ValueError as error:
            raise StoreError(f"{self.path}: {error}.") from error
        return inside(self.path, "trials", *parts)

    def _partial(self, key: str) -> Path:
        """Folder in which a trial is written until it is whole; `claim` sweeps those that a killed process left."""
        return inside(self.path, PARTIAL, temporary_name(key))

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process now holds the trial; the system lets go of it when the process dies."""
        lock = FileLock(inside(self.path, "locks", f"{key}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            # of a process that was killed while it wrote
            delete(list(inside(self.path, PARTIAL).glob(f"{key}-*")))
            with claimed(inside(self.path, CLAIMS), key):
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
    """The run stored in `path`, every file of its header read once and found right.

    Raises
    ------
    StoreError : there is no run there, one of a newer format, or one whose header is damaged.
    """
    if not holds_run(path):
        near = sorted(p.parent.name for p in path.parent.glob(f"*/{CONFIG}")) if path.parent.is_dir() else []
        raise StoreError(
            f"{path} holds no run ({CONFIG} is missing). Runs in {path.parent}: {', '.join(near) or 'none'}."
        )
    run = Run(path)
    if run.environment.get("run_format", 0) > RUN_FORMAT:
        raise StoreError(
            f"{path} was written by milbench {run.environment.get('milbench', '?')}, whose run folders this version "
            "cannot read. Update milbench, or choose another folder with --run."
        )
    check_header(run)
    return run


def holds_run(path: Path) -> bool:
    """Whether there is a run in `path`.

    Raises
    ------
    StoreError : nothing can have such a name.
    """
    try:
        return (path / CONFIG).is_file()
    except OSError as error:
        raise StoreError(f"{str(path)[:60]}...: {error.strerror}. Choose another name for the run folder.") from error


def check_header(run: Run) -> None:
    """Read every file of the header, and hold each against the others.

    Raises
    ------
    StoreError : one is damaged, a folder is a symbolic link, or the plan has a dataset that nothing describes.
    """
    for folder in FOLDERS:
        inside(run.path, folder)
    _ = run.config if _is_there(run.path / CONFIG) else None, run.environment
    run.asked()
    for slot in run.slots():
        if slot.dataset not in run.datasets:
            raise StoreError(
                f"{run.path / PLAN} is damaged (it plans trials of '{slot.dataset}', which {DATASETS} does not describe). {AGAIN}"
            )


def _failure(path: Path) -> dict[str, Any]:
    values = dict(read_json(path, FAILURE_SHAPE))
    if not path.stem.startswith(values["id"].rpartition("-")[2]):
        raise StoreError(f"{path} is damaged (it is of {values['id']}). {AGAIN}")
    return values


def _is_there(path: Path) -> bool:
    """Whether there is anything of that name; a link that leads nowhere is something."""
    return path.exists() or path.is_symlink()
