"""Store: one folder per finished trial, below one folder per run. Predictions are the truth.

::

    runs/digits/
      run.yaml  environment.json  datasets.json  plan.json
      splits/digits.csv  labels/digits.csv
      trials/digits/amil/has0/fold0-seed42-1f3a9c02/
        predictions.parquet  history.parquet  model.safetensors  trial.json (last, with checksums)
      failures/<key>.json        what went wrong, until the trial succeeds
      locks/<key>.lock           held by the process that computes the trial
      claims/<key>.json          says which process that is
      checkpoints/               where trainings that are not done have got to
  partial/                   trials being written; a killed process leaves them to the next claim

A trial's folder appears by one atomic rename. This module knows no training and reaches no torch.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from milbench.errors import StoreError
from milbench.store.claims import claimed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd

PLAN, CONFIG, ENVIRONMENT, DATASETS = "plan.json", "run.yaml", "environment.json", "datasets.json"
TRIAL = "trial.json"
RUN_FORMAT = 1
"""Raised when an older milbench could misread the folder; 0 = before folders said so, which reads the same."""

PARTIAL, CLAIMS = "partial", "claims"


@dataclass(frozen=True)
class StoredTrial:
    """One finished trial on disk.

    Attributes
    ----------
    path : its folder.
    id : "digits/amil/has0/fold0-seed42-1f3a9c02".
    info : what `trial.json` holds: identity, chosen epoch, timings, memory, parameter count.
    """

    path: Path
    id: str
    info: Mapping[str, Any]

    def predictions(self) -> pd.DataFrame:
        """Rows (slide_id, patient_id, role val/test, task, target, probability)."""
        import pandas as pd

        return pd.read_parquet(self.path / "predictions.parquet")

    def history(self) -> pd.DataFrame:
        """One row an epoch (epoch, lr, train_loss, val_loss, val_auroc)."""
        import pandas as pd

        return pd.read_parquet(self.path / "history.parquet")


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
        return dict(_read(self.path / CONFIG, yaml.safe_load))

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, commit and hardware (environment.json)."""
        return dict(_read(self.path / ENVIRONMENT, json.loads))

    @cached_property
    def datasets(self) -> dict[str, Any]:
        """What the report needs of every cohort (datasets.json)."""
        return dict(_read(self.path / DATASETS, json.loads))

    def planned(self) -> dict[str, str]:
        """Trial id by slot: what the newest plan asks for; older trials of a slot are stale."""
        path = self.path / PLAN
        return dict(_read(path, json.loads)) if path.exists() else {}

    def trials(self) -> list[StoredTrial]:
        """Finished, intact trials of the plan, sorted by id."""
        stored = (self.trial(trial_id) for trial_id in sorted(self.planned().values()))
        return [trial for trial in stored if trial is not None]

    def trial(self, trial_id: str) -> StoredTrial | None:
        """The finished trial, or None where it is absent, half-written or damaged."""
        path = self.path / "trials" / trial_id
        try:
            info = json.loads((path / TRIAL).read_text())
            intact = all(_sha256(path / name) == digest for name, digest in info["payload_sha256"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return StoredTrial(path, trial_id, info) if intact else None

    def failures(self) -> list[dict[str, Any]]:
        """Recorded failures of planned trials, sorted by trial id."""
        planned = set(self.planned().values())
        rows: list[dict[str, Any]] = []
        for path in (self.path / "failures").glob("*.json"):
            try:
                rows.append(_read(path, json.loads))
            except StoreError:
                if path.exists():  # else another process has tried the trial again meanwhile, with success
                    raise
        return sorted((row for row in rows if row["id"] in planned), key=lambda row: str(row["id"]))

    def failure(self, key: str) -> dict[str, Any]:
        """The recorded failure of one trial."""
        return dict(_read(self.path / "failures" / f"{key}.json", json.loads))

    def has_failed(self, key: str) -> bool:
        """Whether a failure of the trial is on record."""
        return (self.path / "failures" / f"{key}.json").exists()

    def split_file(self, dataset: str) -> Path:
        """Where the dataset's split table lies."""
        return self.path / "splits" / f"{dataset}.csv"

    def label_file(self, dataset: str) -> Path:
        """Where the dataset's labels lie; runs of older versions have none."""
        return self.path / "labels" / f"{dataset}.csv"

    def labels(self, dataset: str) -> pd.DataFrame:
        """Labels of the dataset's slides: slide_id, patient_id, one column a task in {0, 1, NaN}.

        Raises
        ------
        StoreError : there are none, or they can't be read.
        """
        table = _read(self.label_file(dataset), _text_table)
        tasks = [column for column in table.columns if column not in ("slide_id", "patient_id")]
        return table.assign(**{task: table[task].replace("", "nan").astype(float) for task in tasks})

    def roles(self, dataset: str) -> pd.DataFrame:
        """The dataset's split: patient_id, fold_0 .. in {train, val, test}.

        Raises
        ------
        StoreError : there is none, or it can't be read.
        """
        table: pd.DataFrame = _read(self.split_file(dataset), _text_table)
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
    ) -> None:
        """Describe the run; datasets and planned trials add to those that earlier calls left.

        Raises
        ------
        StoreError : the folder cannot be written.
        """
        with writing(self.path):
            for folder in ("trials", "failures", "locks", "splits", "labels", PARTIAL):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            with FileLock(self.path / "locks" / "header.lock"):
                write_atomically(self.path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False).encode())
                write_atomically(self.path / ENVIRONMENT, _json({**environment, "run_format": RUN_FORMAT}))
                known = json.loads((self.path / DATASETS).read_text()) if (self.path / DATASETS).exists() else {}
                write_atomically(self.path / DATASETS, _json({**known, **datasets}))
                write_atomically(self.path / PLAN, _json({**self.planned(), **plan}))

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
        with writing(self.path):
            folder = self.path / PARTIAL / f"{info['key']}-{uuid.uuid4().hex}"
            folder.mkdir(parents=True)
            try:
                predictions.to_parquet(folder / "predictions.parquet", index=False)
                history.to_parquet(folder / "history.parquet", index=False)
                if weights is not None:
                    from safetensors.numpy import save_file

                    with as_os_error():
                        save_file(dict(weights), folder / "model.safetensors")
                digests = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
                for name in digests:
                    _sync(folder / name)
                write_atomically(folder / TRIAL, _json({**info, "id": trial_id, "payload_sha256": digests}))
                _replace_folder(folder, self.path / "trials" / trial_id)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise

    def adopt(self, trial: StoredTrial) -> None:
        """Put another run's finished trial in place, byte for byte, by one rename; an intact one here stays.

        Raises
        ------
        StoreError : the disk is full or the folder cannot be written.
        """
        if self.trial(trial.id) is not None:
            return
        with writing(self.path):
            folder = self.path / PARTIAL / f"{trial.info['key']}-{uuid.uuid4().hex}"
            try:
                shutil.copytree(trial.path, folder)
                for path in folder.iterdir():
                    _sync(path)
                _replace_folder(folder, self.path / "trials" / trial.id)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise

    def write_failure(self, key: str, record: Mapping[str, Any]) -> None:
        """Record why a trial failed; a failure never counts as done."""
        with writing(self.path):
            write_atomically(self.path / "failures" / f"{key}.json", _json(record))

    def clear_failure(self, key: str) -> None:
        """Forget a failure, because the trial is tried again or has succeeded."""
        with writing(self.path):
            (self.path / "failures" / f"{key}.json").unlink(missing_ok=True)

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


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn the system's refusals to write into one clear message."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to {folder}: {error.strerror or error}. "
            "Free space or choose another place (--run, --out); finished trials are kept, the same command goes on."
        ) from error


@contextmanager
def as_os_error() -> Iterator[None]:
    """Turn what safetensors raises where the disk is full into what everything else raises there."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` with `content`, on disk before the rename, so that no reader sees half of it."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _replace_folder(new: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():  # damaged: `trial` found no intact one, or it would not be computed again
        shutil.rmtree(final)
    new.replace(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, parse: Any) -> Any:
    try:
        return parse(path.read_text())
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise StoreError(f"{path} is damaged ({error}). Delete it and start the same command again.") from error


def _text_table(text: str) -> pd.DataFrame:
    """A CSV with every cell as text: ids keep their zeros and are never taken for numbers."""
    import pandas as pd

    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
