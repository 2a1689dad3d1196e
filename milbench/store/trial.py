"""Stored trial: one folder of predictions, history and weights, sealed by `trial.json` with their checksums.

A stored trial proves who it is. Its key and its place follow from its own record, its files have the checksums and the
schema that the record promises. Whatever does not is damaged.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.endpoints.fitted import FittedEndpoint
from milbench.errors import StoreError
from milbench.store.columns import Columns, columns_from, columns_in, read_parquet_frame
from milbench.store.files import (
    AGAIN,
    MOST_TABLE_BYTES,
    as_os_error,
    file_sha256,
    json_bytes,
    refuse_no_plain_file,
)
from milbench.store.headers import RECORD_SHAPE, read_json
from milbench.store.identity import recorded_key
from milbench.store.kept import History, Kept, history_from, history_in
from milbench.store.payload import (
    refuse_other_answers,
    refuse_other_history,
    refuse_other_predictions,
    refuse_other_weights,
    weights_layout,
)
from milbench.store.slot import trial_id_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

PREDICTIONS, HISTORY, WEIGHTS, TRIAL = "predictions.parquet", "history.parquet", "model.safetensors", "trial.json"

MOST_WEIGHT_BYTES = 40_000_000_000
"""Of one trial's weights: 10 billion numbers of 4 bytes."""

LAYOUT = "weights"
"""Entry of `trial.json`: type and shape of each tensor in the weights. Trials of older versions have none."""


def endpoints_of(record: Mapping[str, Any]) -> tuple[FittedEndpoint, ...]:
    """Endpoints that a record holds, one per task; empty if all tasks are binary."""
    return tuple(FittedEndpoint.from_dict(values) for values in record.get("endpoints", ()))


class DamagedTrialError(StoreError):
    """A folder in a trial's place that is not that trial, or not whole. The message says why."""


@dataclass(frozen=True, repr=False)
class StoredTrial:
    """One finished trial on disk.

    Attributes
    ----------
    path : its folder.
    id : "digits/amil/has_0/fold0-seed42-1f3a9c02".
    info : what `trial.json` holds: identity, chosen epoch, timings, memory, parameter count.
    kept : where its columns stay once they are read; None = they are read each time.
    """

    path: Path
    id: str
    info: Mapping[str, Any]
    kept: Kept | None = field(default=None, compare=False, kw_only=True)

    def __repr__(self) -> str:
        return f"StoredTrial({self.id})"

    def predictions(self) -> pd.DataFrame:
        """Rows (slide_id, patient_id, role val/test, task, target, probability) of the trial's binary tasks."""
        if not self.endpoints:
            return read_parquet_frame(self.path / PREDICTIONS)
        binary = [task for task, each in zip(self.info["tasks"], self.endpoints, strict=True) if each.kind == "binary"]
        rows = self.answers()
        rows = rows[rows["task"].isin(binary)].drop(columns=["event", "answer"]).reset_index(drop=True)
        return rows.rename(columns={"prediction": "probability"})

    def answers(self) -> pd.DataFrame:
        """Rows (slide_id, patient_id, role, task, target, event, answer, prediction): one per slide, task and answer.

        The target is 0 or 1, the place of the class or grade, the value, or the time in days; `event` is 0 or 1 for
        survival, else NaN. Answers are named as in `FittedEndpoint.answers`.
        """
        return as_answers(read_parquet_frame(self.path / PREDICTIONS))

    def answer_columns(self) -> Columns:
        """The rows of `answers` as arrays, for whoever reads many trials."""
        return self.stored_columns()

    def stored_columns(self) -> Columns:
        """What the trial's own file holds, as arrays that nobody may write into."""
        path = self.path / PREDICTIONS
        if self.kept is None:
            return columns_in(path)
        return self.kept.columns(path, self.info["payload_sha256"][PREDICTIONS])

    @property
    def endpoints(self) -> tuple[FittedEndpoint, ...]:
        """Of each task, as the trial's training patients fitted it; empty if all tasks are binary."""
        return endpoints_of(self.info)

    @property
    def endpoint_of(self) -> dict[str, FittedEndpoint]:
        """Endpoint by task, binary ones too."""
        tasks = self.info["tasks"]
        return dict(zip(tasks, self.endpoints or [FittedEndpoint()] * len(tasks), strict=True))

    def history(self) -> pd.DataFrame:
        """One row per epoch (epoch, lr, train_loss, val_loss, val_auroc; val_score for it if a task is not binary)."""
        return read_parquet_frame(self.path / HISTORY)

    def history_columns(self) -> History:
        """The same as arrays, for whoever reads many trials; nobody may write into them."""
        path = self.path / HISTORY
        if self.kept is None:
            return history_in(path)
        return self.kept.history(path, self.info["payload_sha256"][HISTORY])

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each file by its name."""
        found: Mapping[str, str] = self.info["payload_sha256"]
        return found

    @property
    def keeps_weights(self) -> bool:
        """Whether the trial's weights are on disk and under its checksums."""
        return WEIGHTS in self.info["payload_sha256"]


def as_answers(rows: pd.DataFrame) -> pd.DataFrame:
    """A table of predictions as it is stored, with one row per answer also if all tasks are binary."""
    if "answer" in rows:
        return rows
    place = rows.columns.get_loc("target") + 1
    rows = rows.rename(columns={"probability": "prediction"})
    rows.insert(place, "event", float("nan"))
    rows.insert(place + 1, "answer", "probability")
    return rows


def read_record(folder: Path, trial_id: str) -> dict[str, Any]:
    """What `trial.json` holds, its identity verified and no other file read.

    Raises
    ------
    FileNotFoundError : there is none.
    DamagedTrialError : it cannot be read, or is another trial's.
    """
    path = folder / TRIAL
    if not path.exists() and not path.is_symlink():
        raise FileNotFoundError(path)
    try:
        record = read_json(path, RECORD_SHAPE)
        _refuse_another_identity(record, trial_id)
    except (StoreError, ValueError) as error:
        raise DamagedTrialError(_reason(error)) from error
    return dict(record)


def glance_at(folder: Path, trial_id: str) -> None:
    """Raise unless `trial.json` is the trial's and the header of its weights is as it says; no checksum is verified.

    Raises
    ------
    FileNotFoundError : there is no trial, or one half-written.
    DamagedTrialError : there is something else in its place.
    """
    record = read_record(folder, trial_id)
    if WEIGHTS in record["payload_sha256"]:
        with _as_damage():
            _refuse_no_plain_payload(folder / WEIGHTS)
            refuse_other_weights(folder / WEIGHTS, record["n_parameters"], record.get(LAYOUT))


def read_trial(folder: Path, trial_id: str, kept: Kept | None = None) -> StoredTrial:
    """The finished trial in `folder`, its record, checksums and files verified.

    Parameters
    ----------
    kept : where the columns stay that the verification reads, for who will look at them; None = nowhere.

    Raises
    ------
    FileNotFoundError : there is none, or one half-written.
    DamagedTrialError : there is something else in its place.
    """
    record = read_record(folder, trial_id)
    with _as_damage():
        for name, digest in record["payload_sha256"].items():
            _refuse_no_plain_payload(folder / name)
            if file_sha256(folder / name) != digest:
                raise ValueError(f"{name} has another checksum than {TRIAL} says")
        _refuse_other_content(folder, record, kept)
    return StoredTrial(folder, trial_id, record, kept=kept)


@contextmanager
def _as_damage() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DamagedTrialError(f"{Path(str(error.filename)).name}: {error.strerror}") from error
    except ValueError as error:
        raise DamagedTrialError(str(error)) from error


def _refuse_no_plain_payload(path: Path) -> None:
    refuse_no_plain_file(path, MOST_WEIGHT_BYTES if path.name == WEIGHTS else MOST_TABLE_BYTES)


def _refuse_another_identity(record: Mapping[str, Any], trial_id: str) -> None:
    if recorded_key(record) != record["key"]:
        raise ValueError(f"the key in its {TRIAL} does not follow from the settings there")
    own_id = trial_id_of(record)
    if own_id != trial_id or record.get("id", own_id) != own_id:
        raise ValueError(f"its {TRIAL} is that of {own_id}")
    names = set(record["payload_sha256"])
    if not {PREDICTIONS, HISTORY} <= names <= {PREDICTIONS, HISTORY, WEIGHTS}:
        raise ValueError(f"its {TRIAL} has no checksum of {PREDICTIONS} and {HISTORY}, or one of another file")


def _refuse_other_content(folder: Path, record: Mapping[str, Any], kept: Kept | None) -> None:
    digests = record["payload_sha256"]
    n_slides = tuple(sorted(record.get("n_slides", {}).items()))
    endpoints = endpoints_of(record)
    path, digest, tasks = folder / PREDICTIONS, digests[PREDICTIONS], tuple(record["tasks"])
    if kept is None or kept.holds(digest):
        _predictions_are_right(path, digest, tasks, endpoints, n_slides)
    else:
        kept.add(digest, columns_from(_right_predictions(path, tasks, endpoints, dict(n_slides))))
    path, digest, n_epochs = folder / HISTORY, digests[HISTORY], record.get("n_epochs")
    if kept is None or kept.holds(digest):
        _history_is_right(path, digest, n_epochs, bool(endpoints))
    else:
        table = refuse_other_history(path, n_epochs, has_other_kinds=bool(endpoints))
        kept.add_history(digest, history_from(table))
    if WEIGHTS in digests:
        layout = tuple(record[LAYOUT].items()) if LAYOUT in record else None
        _weights_are_right(folder / WEIGHTS, digests[WEIGHTS], record["n_parameters"], layout)


# A file with a known checksum is looked into once per process: a command asks for the same trials several times.


@cache
def _predictions_are_right(
    path: Path,
    _digest: str,
    tasks: tuple[str, ...],
    endpoints: tuple[FittedEndpoint, ...],
    n_slides: tuple[tuple[str, int], ...],
) -> None:
    _right_predictions(path, tasks, endpoints, dict(n_slides))


def _right_predictions(
    path: Path, tasks: tuple[str, ...], endpoints: tuple[FittedEndpoint, ...], n_slides: Mapping[str, int]
) -> pa.Table:
    """The table of a file that is right; raises `ValueError` of another."""
    if endpoints:
        return refuse_other_answers(path, tasks, endpoints, n_slides)
    return refuse_other_predictions(path, tasks, n_slides)


@cache
def _history_is_right(path: Path, _digest: str, n_epochs: int | None, has_other_kinds: bool) -> None:  # noqa: FBT001 - cached by place
    refuse_other_history(path, n_epochs, has_other_kinds=has_other_kinds)


@cache
def _weights_are_right(
    path: Path, _digest: str, n_parameters: float, layout: tuple[tuple[str, str], ...] | None
) -> None:
    refuse_other_weights(path, n_parameters, None if layout is None else dict(layout))


def _reason(error: Exception) -> str:
    """The message without what to do about a header, since a trial is computed again by itself."""
    return str(error).removesuffix(f" {AGAIN}")


def fill_trial_folder(
    folder: Path,
    info: Mapping[str, Any],
    predictions: pd.DataFrame,
    history: pd.DataFrame,
    weights: Mapping[str, np.ndarray[Any, Any]] | None,
) -> None:
    """Write a trial's files into an empty folder, `trial.json` last, with the checksums of the others."""
    predictions.to_parquet(folder / PREDICTIONS, index=False)
    history.to_parquet(folder / HISTORY, index=False)
    if weights is not None:
        _write_weights(folder / WEIGHTS, weights)
    digests = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    layout = {} if weights is None else {LAYOUT: weights_layout(folder / WEIGHTS)}
    (folder / TRIAL).write_bytes(json_bytes({**info, **layout, "payload_sha256": digests}))


def copy_trial(trial: StoredTrial, folder: Path) -> None:
    """Copy the files that `trial` consists of, and nothing that lies beside them, into an empty folder."""
    for name in (*sorted(trial.info["payload_sha256"]), TRIAL):
        _refuse_no_plain_payload(trial.path / name)
        shutil.copyfile(trial.path / name, folder / name, follow_symlinks=False)


def _write_weights(path: Path, weights: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write the arrays in the order of their values, read them back and compare.

    safetensors stores bytes as they lie in memory. Those of a transposed array are in another order than its values.
    """
    import numpy as np
    from safetensors.numpy import load_file, save_file

    ordered = {name: np.ascontiguousarray(values).reshape(values.shape) for name, values in weights.items()}
    with as_os_error():
        save_file(ordered, path)
        stored = load_file(path)
    changed = [name for name in ordered if name not in stored or stored[name].tobytes() != ordered[name].tobytes()]
    if changed:
        raise OSError(errno.EIO, f"{path.name} holds other values of {', '.join(changed[:3])} than were written")
