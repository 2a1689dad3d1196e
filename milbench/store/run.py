"""Run: one folder per finished trial, below one folder per run. Predictions are the truth.

This module reads a run and changes nothing; `run_writing.py` writes it. `run_folder.py` says where everything lies. None of them
knows of training or reaches torch.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.errors import StoreError
from milbench.names import by_folder
from milbench.store.ahead import reading
from milbench.store.files import AGAIN, inside, read
from milbench.store.headers import (
    DATASETS_SHAPE,
    ENVIRONMENT_SHAPE,
    FAILURE_SHAPE,
    QUESTIONS_SHAPE,
    plan_shape,
    read_config,
    read_json,
)
from milbench.store.joined import ANSWER_COLUMNS, HISTORY_COLUMNS, PREDICTION_COLUMNS, history_of, joined
from milbench.store.kept import Kept
from milbench.store.question import Asked, StaleTrial, asked_from_json, asked_of_old_folder, differences
from milbench.store.run_folder import (
    CONFIG,
    DATASETS,
    ENVIRONMENT,
    FAILURES,
    FOLDERS,
    PLAN,
    QUESTIONS,
    TRIALS,
    RunFolder,
    is_there,
)
from milbench.store.run_tables import labels_from, roles_from
from milbench.store.slot import Slot, slot_of
from milbench.store.trial import HISTORY, PREDICTIONS, TRIAL, StoredTrial, glance_at, read_record, read_trial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

RUN_FORMAT = 1
"""Version of the format, raised when an older milbench could misread the folder; 0 = a folder that states none, read alike."""


class Run(RunFolder):
    """A run folder as it is read: finished trials, failures, configuration; parameters are those of `RunFolder`."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration (run.yaml)."""
        return read_config(self.path / CONFIG)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, commit and hardware (environment.json); empty if a command was killed before it wrote the file."""
        path = self.path / ENVIRONMENT
        return dict(read_json(path, ENVIRONMENT_SHAPE)) if is_there(path) else {}

    @cached_property
    def datasets(self) -> dict[str, Any]:
        """What the report needs of every cohort (datasets.json); empty if a command was killed before it wrote the file."""
        path = self.path / DATASETS
        return dict(read_json(path, DATASETS_SHAPE)) if is_there(path) else {}

    def forget_header(self) -> None:
        """Read the header's files again next time, since another is in their place."""
        for name in ("config", "environment", "datasets"):
            self.__dict__.pop(name, None)

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
        return dict(read_json(path, plan_shape)) if is_there(path) else {}

    def slots(self) -> list[Slot]:
        """The grid of the newest plan, in its order."""
        return self.slots_of(self.planned())

    def slots_of(self, plan: Mapping[str, str]) -> list[Slot]:
        """The grid of a plan, trial id by slot, in its order."""
        names = by_folder(name for facts in self.datasets.values() for name in (*facts["models"], *facts["tasks"]))
        return [slot_of(name, trial_id, names) for name, trial_id in plan.items()]

    @property
    def is_search(self) -> bool:
        """Whether the newest plan tries settings."""
        return any(slot.configuration is not None for slot in self.slots())

    def trials(self) -> list[StoredTrial]:
        """Finished, intact trials of the plan that answer what is asked now, sorted by id."""
        asked = self.asked()
        stored = (self.trial(trial_id) for trial_id in sorted(self.planned().values()))
        return [trial for trial in stored if trial is not None and not differences(asked, trial.info)]

    def asked(self) -> dict[str, Asked]:
        """What is asked of each dataset now, and what was asked before."""
        path = self.path / QUESTIONS
        if is_there(path):
            return asked_from_json(read_json(path, QUESTIONS_SHAPE))
        if not self.datasets:
            return {}
        infos = filter(None, map(self.record, self.planned().values()))
        return asked_of_old_folder(self.datasets, self.config.get("trainer") or {}, infos)

    def stale(self) -> list[StaleTrial]:
        """Trials in the folder that answer another question than the one asked now, sorted by id."""
        asked, planned = self.asked(), set(self.planned().values())
        found = []
        for path in sorted((self.path / TRIALS).glob(f"*/*/*/*/{TRIAL}")):
            trial_id = path.parent.relative_to(self.path / TRIALS).as_posix()
            info = self.record(trial_id)
            if info is None:
                continue
            other = differences(asked, info)
            if other or trial_id not in planned:
                found.append(StaleTrial(trial_id, path.parent, info, other or ("an earlier plan",)))
        return found

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
        verify_files : read all its files; else only `trial.json` and the header of the weights.
        """
        try:
            folder = self.trial_folder(trial_id)
            read_trial(folder, trial_id) if verify_files else glance_at(folder, trial_id)
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
        """One table of what every finished trial says of its binary tasks, in the order of trial ids: `PREDICTION_COLUMNS`."""
        return joined(((trial, trial.predictions()) for trial in self.trials()), PREDICTION_COLUMNS)

    def answers(self) -> pd.DataFrame:
        """One table of what every finished trial says of tasks of any kind, in the order of trial ids: `ANSWER_COLUMNS`."""
        return joined(((trial, trial.answers()) for trial in self.trials()), ANSWER_COLUMNS)

    def histories(self) -> pd.DataFrame:
        """One table of how every finished trial learned, one row per epoch, in the order of trial ids.

        `HISTORY_COLUMNS`; the task is "all" if a model learns several. `val_score` is the mean AUROC of binary tasks.
        """
        return joined(((trial, history_of(trial)) for trial in self.trials()), HISTORY_COLUMNS)

    def failures(self) -> list[dict[str, Any]]:
        """Recorded failures of planned trials that answer what is asked now, sorted by trial id."""
        planned, asked = set(self.planned().values()), self.asked()
        rows: list[dict[str, Any]] = []
        for path in sorted(inside(self.path, FAILURES).glob("*.json")):
            try:
                rows.append(_failure(path))
            except StoreError:
                if is_there(path):  # else another process has tried the trial again meanwhile, with success
                    raise
        current = (row for row in rows if row["id"] in planned and not differences(asked, row.get("identity", {})))
        return sorted(current, key=lambda row: str(row["id"]))

    def failure(self, key: str) -> dict[str, Any]:
        """The recorded failure of one trial."""
        return _failure(self.failure_file(key))

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

    def snapshot(self) -> Snapshot:
        """The run as it is now: its trials are found and their checksums verified once, not at every look."""
        return Snapshot(self.path, self.shown)


class Snapshot(Run):
    """A run as it was at one moment."""

    def snapshot(self) -> Snapshot:
        return self

    def planned(self) -> dict[str, str]:
        return dict(self._planned)

    @cached_property
    def _planned(self) -> dict[str, str]:
        return super().planned()

    def asked(self) -> dict[str, Asked]:
        return dict(self._asked)

    @cached_property
    def _asked(self) -> dict[str, Asked]:
        return super().asked()  # of an older folder it follows from the records of all trials

    def record(self, trial_id: str) -> dict[str, Any] | None:
        trial = self._ahead.get(trial_id)
        return dict(trial.info) if trial else super().record(trial_id)

    def trials(self) -> list[StoredTrial]:
        return list(self._found)

    @cached_property
    def _found(self) -> tuple[StoredTrial, ...]:
        return tuple(super().trials())

    def trial(self, trial_id: str) -> StoredTrial | None:
        return self._ahead[trial_id] if trial_id in self._ahead else self._read(trial_id, self._kept)

    def _read(self, trial_id: str, kept: Kept) -> StoredTrial | None:
        try:
            return read_trial(self.trial_folder(trial_id), trial_id, kept)
        except (FileNotFoundError, StoreError):
            return None

    @contextmanager
    def read_ahead(self) -> Iterator[None]:
        """Inside, copies of this process read the trials; when the block is left, all are read.

        Without copies (`milbench.process.forked.begun`) they are read when it is left.
        """
        ids = sorted(self.planned().values())
        with reading(ids, self._read, self._rebuilt) as found:
            yield
        for trial_id, (trial, columns, history) in zip(ids, found, strict=True):
            self._ahead[trial_id] = trial and self._rebuilt(trial_id, trial.info)
            if trial and columns is not None:
                self._kept.add(trial.digests[PREDICTIONS], columns)
            if trial and history is not None:
                self._kept.add_history(trial.digests[HISTORY], history)

    def _rebuilt(self, trial_id: str, record: Mapping[str, Any]) -> StoredTrial:
        return StoredTrial(self.path / TRIALS / trial_id, trial_id, record, kept=self._kept)

    @cached_property
    def _ahead(self) -> dict[str, StoredTrial | None]:
        return {}

    @cached_property
    def _kept(self) -> Kept:
        return Kept()


def open_run(path: Path) -> Run:
    """The run stored in `path`, every file of its header read once and found right.

    Raises
    ------
    StoreError : there is no run there, one of a newer format, or one whose header is damaged.
    """
    if not holds_run(path):
        below = sorted(p.parent.name for p in path.glob(f"*/{CONFIG}"))
        folder = path if below else path.parent
        near = below or sorted(p.parent.name for p in folder.glob(f"*/{CONFIG}"))
        raise StoreError(f"{path} holds no run ({CONFIG} is missing). Runs in {folder}: {', '.join(near) or 'none'}.")
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
    _ = run.config if is_there(run.path / CONFIG) else None, run.environment
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
