"""Tracking: stored trials -> MLflow. The store is the truth; MLflow shows it and can be made anew from it.

Only this process talks to MLflow, in a thread of its own: an unreachable server delays tracking, never the run.
Runs form a tree: one parent for every dataset × model with summary metrics, one child a trial.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from milbench.errors import MilbenchError, TrackingError
from milbench.store.run import Run
from milbench.store.trial import StoredTrial
from milbench.tracking.client import all_runs, client_of, default_uri, experiment_of, without_password
from milbench.tracking.values import (
    as_text,
    as_they_ran,
    facts_of,
    metrics_of,
    milliseconds,
    parameters_of,
    started,
    summary_of,
    task_of,
)  # fmt: skip

if TYPE_CHECKING:
    from mlflow.entities import Metric

METRICS_A_CALL = 1000
"""MLflow's limit for one `log_batch`."""

CLOSE_SECONDS = 120.0
"""How long the end of a run waits for tracking to catch up."""

TRIAL_KEY, KIND = "milbench.trial_key", "milbench.kind"

BEST_FIRST = "models-best-first"
"""Name of a saved view of the UI's run list: the parents only, sorted by the mean test AUROC, which it shows."""

SAVED_VIEW = {
    "searchFilter": 'tags.milbench.kind="parent"',
    "orderByKey": "metrics.`test/auroc`",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "selectedColumns": ["metrics.`test/auroc`", "params.`dataset`", "params.`model`"],
}
"""What the UI reads from an experiment's tag for a link with `viewStateShareKey`; its own addresses carry no columns."""


def tracked_at(run: Run) -> str:
    """Where the run's trials are tracked, from its configuration; empty where they are not."""
    tracking = run.config.get("tracking", {})
    if not tracking.get("enabled", False):
        return ""
    return str(tracking.get("uri") or default_uri(run.path.absolute().parent))


class Tracker:
    """Publishes trials in the background, while the run goes on.

    Parameters
    ----------
    uri : MLflow tracking server or database.
    run : whose trials they are; its name is the experiment's.
    enabled : False makes every method do nothing.
    warn : called once with one line if tracking fails.
    """

    def __init__(self, uri: str, run: Run, *, enabled: bool = True, warn: Callable[[str], None]) -> None:
        self.uri, self.run, self.enabled, self.warn = uri, run, enabled, warn
        self._queue: queue.Queue[StoredTrial | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._failed = False

    def log_trial(self, trial: StoredTrial) -> None:
        """Publish `trial` when its turn comes; returns at once."""
        if self.enabled:
            self._queue.put(trial)

    def log_stored(self, trials: Iterable[StoredTrial]) -> None:
        """Publish trials that earlier commands left; those already there are left alone."""
        for trial in as_they_ran(trials):
            self.log_trial(trial)

    def _work(self) -> None:
        try:
            publisher = _Publisher(self.uri, self.run)
            while (trial := self._queue.get()) is not None:
                publisher.publish(trial)
            publisher.summarise()
        except Exception as error:  # noqa: BLE001 - MLflow raises many kinds, and none may reach the run
            self._failed = True
            self.warn(f"warning: {_unreachable(self.uri, self.run, error)}")

    def __enter__(self) -> Tracker:
        if self.enabled:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.enabled:
            return
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS if kind is None else 1.0)
        if self._thread.is_alive() and not self._failed:
            slow = TimeoutError("it is too slow to wait for")
            self.warn(f"warning: {_unreachable(self.uri, self.run, slow)}")


def publish(run: Run, uri: str) -> int:
    """Number of trials of `run` now at `uri`; those already there are not doubled.

    Raises
    ------
    TrackingError : the server or database cannot be reached.
    """
    try:
        publisher = _Publisher(uri, run)
        trials = as_they_ran(run.trials())
        for trial in trials:
            publisher.publish(trial)
        publisher.summarise()
    except MilbenchError:
        raise
    except Exception as error:
        raise TrackingError(_unreachable(uri, run, error)) from error
    return len(trials)


def publish_report(run: Run, uri: str, folder: Path) -> int:
    """Number of parent runs that now hold the report's files about their cohort, below the artifact path "report".

    Files about one cohort go to that cohort's parents, files about all cohorts to every parent. `folder` is what
    `milbench.report.write_report` wrote; a second call replaces the files.

    Raises
    ------
    TrackingError : the server or database cannot be reached.
    """
    try:
        publish(run, uri)  # the parents must be there
        publisher = _Publisher(uri, run)
        parents = [
            known for known in all_runs(publisher.client, publisher.experiment) if known.data.tags.get(KIND) == "parent"
        ]
        for parent in parents:
            for path in report_files(folder, parent.data.tags["dataset"], run.datasets):
                place = Path("report", path.relative_to(folder).parent)
                publisher.client.log_artifact(parent.info.run_id, str(path), place.as_posix())
        return len(parents)
    except MilbenchError:
        raise
    except Exception as error:
        raise TrackingError(_unreachable(uri, run, error)) from error


ARTIFACT_SUFFIXES = frozenset({".tex", ".csv", ".md", ".png", ".pdf"})
"""Tables and figures. The page is left out: with its script it would weigh megabytes on every parent."""


def report_files(folder: Path, dataset: str, datasets: Iterable[str]) -> list[Path]:
    """Tables and figures of a report that concern `dataset`: its own and those about all cohorts, sorted."""
    names = sorted(datasets, key=len, reverse=True)  # "my_digits" before "digits", which ends its name too
    files = sorted(path for path in folder.rglob("*") if path.suffix in ARTIFACT_SUFFIXES and path.is_file())
    owner = {path: next((name for name in names if path.stem.endswith(f"_{name}")), dataset) for path in files}
    return [path for path in files if owner[path] == dataset]


def _unreachable(uri: str, run: Run, error: Exception) -> str:
    shown = without_password(uri)
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    reason = reason.replace(uri, shown)
    return (
        f"MLflow at {shown} could not be written ({reason}). The results are complete in {run.path}; "
        f"publish them later: milbench track {run.path} --uri {shown}"
    )


class _Publisher:
    """Writes one run's trials; looks up what is there already, so that nothing is doubled."""

    def __init__(self, uri: str, run: Run) -> None:
        self.run = run
        self.client = client_of(uri)
        with _one_at_a_time(run):
            self.experiment = experiment_of(self.client, uri, run.name)
            self.client.set_experiment_tag(
                self.experiment, f"mlflow.sharedViewState.{BEST_FIRST}", json.dumps(SAVED_VIEW)
            )
            self.company = _Company(run)  # with nobody writing, and before looking: all that comes later is noticed
        self.parents: dict[tuple[str, str], str] = {}
        self.published: set[str] = set()
        self.halves: dict[str, str] = {}
        for known in all_runs(self.client, self.experiment):
            if (key := known.data.tags.get(TRIAL_KEY)) is None:
                continue
            if known.info.status == "FINISHED":
                self.published.add(key)
            else:
                self.halves[key] = known.info.run_id

    def publish(self, trial: StoredTrial) -> None:
        """Write one child run, unless it is there or another process has just written it."""
        key = trial.info["key"]
        if key in self.published:
            return
        with _one_at_a_time(self.run):
            if not self._already_there(key):
                self._write(trial)
        self.published.add(key)

    def _already_there(self, key: str) -> bool:
        """Whether another process wrote the trial as a whole; what a killed one left of it is deleted."""
        if self.company.none_came():
            is_whole, halves = False, [self.halves.pop(key)] if key in self.halves else []
        else:
            found = self._find({TRIAL_KEY: key})
            halves = [run.info.run_id for run in found if run.info.status != "FINISHED"]
            is_whole = len(halves) < len(found)
        for half in halves:
            self.client.delete_run(half)
        return is_whole

    def _write(self, trial: StoredTrial) -> None:
        info = trial.info
        parent = self._parent(info)
        name = f"{info['model']} {task_of(info)} fold{info['fold']} seed{info['seed']}"
        tags = {**facts_of(info), TRIAL_KEY: info["key"], KIND: "trial", "mlflow.parentRunId": parent}
        child = self.client.create_run(self.experiment, start_time=started(info), tags=as_text(tags), run_name=name)
        self._log(child.info.run_id, metrics_of(trial), parameters_of(info))
        self.client.set_terminated(child.info.run_id, "FINISHED", milliseconds(info["finished_at"]))

    def _find(self, tags: Mapping[str, str]) -> list[Any]:
        text = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return list(self.client.search_runs([self.experiment], filter_string=text))

    def summarise(self) -> None:
        """Put the summary metrics of every dataset × model on its parent, which the chart view shows first."""
        from mlflow.entities import Metric

        groups: dict[tuple[str, str], list[StoredTrial]] = {}
        for trial in self.run.trials():
            groups.setdefault((trial.info["dataset"], trial.info["model"]), []).append(trial)
        for (dataset, _), trials in groups.items():
            with _one_at_a_time(self.run):  # its trials may all be another process's
                parent = self._parent(trials[0].info)
            controls = set(self.run.datasets[dataset].get("control_tasks", []))
            finished = max(milliseconds(trial.info["finished_at"]) for trial in trials)
            values = summary_of(trials, controls)
            self._log(parent, [Metric(name, value, finished, 0) for name, value in values.items()], {})
            self.client.set_terminated(parent, "FINISHED", finished)

    def _parent(self, info: Mapping[str, Any]) -> str:
        """Run of the trial's dataset × model, made if it is not there; call it with the lock held."""
        pair = info["dataset"], info["model"]
        if pair not in self.parents:
            found = self._find({KIND: "parent", "dataset": pair[0], "model": pair[1]})
            self.parents[pair] = str(found[0].info.run_id) if found else self._new_parent(info)
        return self.parents[pair]

    def _new_parent(self, info: Mapping[str, Any]) -> str:
        tags = as_text({key: info[key] for key in ("dataset", "model", "protocol")})
        parent = self.client.create_run(
            self.experiment,
            start_time=started(info),
            tags={**tags, KIND: "parent"},
            run_name=f"{info['dataset']} {info['model_title']}",
        )
        self._log(parent.info.run_id, [], tags)  # few on purpose: the compare view plots the first three that differ
        return str(parent.info.run_id)

    def _log(self, run_id: str, metrics: Sequence[Metric], parameters: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        given = [Param(key, value[:500]) for key, value in as_text(parameters).items()]
        for start in range(0, max(len(metrics), 1), METRICS_A_CALL):
            self.client.log_batch(
                run_id, metrics=metrics[start : start + METRICS_A_CALL], params=given if start == 0 else []
            )


class _Company:
    """Whether other processes track the same run folder: while none does, nobody's writing has to be looked for.

    Whoever tracks leaves its mark in one file: it reads there, while it holds the lock, whether another came after it.
    """

    def __init__(self, run: Run) -> None:
        self.path, self.mark = run.path / "locks" / "mlflow.last", uuid.uuid4().hex
        self.alone = self._left_mark()

    def none_came(self) -> bool:
        """Whether nobody else has tracked the run since this was made; call it with the lock held."""
        with suppress(OSError):
            if self.alone and self.path.read_text() == self.mark:
                return True
        self.alone = False
        self._left_mark()  # the others learn of this one
        return False

    def _left_mark(self) -> bool:
        with suppress(OSError):
            self.path.write_text(self.mark)
            return True
        return False


def _one_at_a_time(run: Run) -> AbstractContextManager[Any]:
    """Held while looking and writing, since several commands may work on one run folder at once.

    A folder that cannot be written is nobody's work in progress and needs no lock.
    """
    folder = run.path / "locks"
    return FileLock(folder / "mlflow.lock") if os.access(folder, os.W_OK) else nullcontext()
