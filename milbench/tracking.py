"""Tracking: stored trials -> MLflow. The store is the truth; MLflow shows it and can be made anew from it.

Only this process talks to MLflow, in a thread of its own: an unreachable server delays tracking, never the run.
Runs form a tree: one parent for every dataset × model with summary metrics, one child a trial.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from milbench.errors import MilbenchError, TrackingError
from milbench.metrics import auroc, mean_of_defined
from milbench.store import Run, StoredTrial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
METRICS_A_CALL = 1000
"""MLflow's limit for one `log_batch`."""

CLOSE_SECONDS = 120.0
"""How long the end of a run waits for tracking to catch up."""

HTTP_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
}

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


def default_uri(runs: Path) -> str:
    """The SQLite store beside the run folders; absolute, since MLflow resolves it from wherever it is read."""
    return f"sqlite:///{(runs.absolute() / DATABASE).as_posix()}"


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
        for trial in _as_they_ran(trials):
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
        trials = _as_they_ran(run.trials())
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


def without_password(uri: str) -> str:
    """`uri` with its password, if it holds one, as ***: messages end up in logs and issues."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", uri)


class _Publisher:
    """Writes one run's trials; looks up what is there already, so that nothing is doubled."""

    def __init__(self, uri: str, run: Run) -> None:
        self.run = run
        self.client = client_of(uri)
        with _one_at_a_time(run):
            self.experiment = _experiment(self.client, uri, run.name)
            self.client.set_experiment_tag(
                self.experiment, f"mlflow.sharedViewState.{BEST_FIRST}", json.dumps(SAVED_VIEW)
            )
        self.parents: dict[tuple[str, str], str] = {}
        self.published = {
            known.data.tags[TRIAL_KEY]
            for known in all_runs(self.client, self.experiment)
            if TRIAL_KEY in known.data.tags and known.info.status == "FINISHED"
        }

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
        """Whether the trial is there as a whole; what a killed process left of it is deleted."""
        found = self._find({TRIAL_KEY: key})
        whole = [run for run in found if run.info.status == "FINISHED"]
        for half in (run for run in found if run not in whole):
            self.client.delete_run(half.info.run_id)
        return bool(whole)

    def _write(self, trial: StoredTrial) -> None:
        info = trial.info
        parent = self._parent(info)
        name = f"{info['model']} {_task(info)} fold{info['fold']} seed{info['seed']}"
        tags = {**_facts(info), TRIAL_KEY: info["key"], KIND: "trial", "mlflow.parentRunId": parent}
        child = self.client.create_run(self.experiment, start_time=_started(info), tags=_text(tags), run_name=name)
        self._log(child.info.run_id, _metrics(trial), _parameters(info))
        self.client.set_terminated(child.info.run_id, "FINISHED", _milliseconds(info["finished_at"]))

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
            finished = max(_milliseconds(trial.info["finished_at"]) for trial in trials)
            values = _summary(trials, controls)
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
        tags = _text({key: info[key] for key in ("dataset", "model", "protocol")})
        parent = self.client.create_run(
            self.experiment,
            start_time=_started(info),
            tags={**tags, KIND: "parent"},
            run_name=f"{info['dataset']} {info['model_title']}",
        )
        self._log(parent.info.run_id, [], tags)  # few on purpose: the compare view plots the first three that differ
        return str(parent.info.run_id)

    def _log(self, run_id: str, metrics: Sequence[Metric], parameters: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        given = [Param(key, value[:500]) for key, value in _text(parameters).items()]
        for start in range(0, max(len(metrics), 1), METRICS_A_CALL):
            self.client.log_batch(
                run_id, metrics=metrics[start : start + METRICS_A_CALL], params=given if start == 0 else []
            )


def _one_at_a_time(run: Run) -> AbstractContextManager[Any]:
    """Held while looking and writing, since several commands may work on one run folder at once.

    A folder that cannot be written is nobody's work in progress and needs no lock.
    """
    folder = run.path / "locks"
    return FileLock(folder / "mlflow.lock") if os.access(folder, os.W_OK) else nullcontext()


def client_of(uri: str) -> MlflowClient:
    """A client of `uri`; a SQLite database is created first, by one process at a time."""
    for name, value in HTTP_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in (
        "mlflow",
        "alembic",
    ):  # after the import, which sets them up: their chatter would tear the progress bar
        logging.getLogger(name).setLevel(logging.ERROR)
    if not uri.startswith("sqlite:///"):
        return MlflowClient(tracking_uri=uri)
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)  # makes the tables
    return client


def _experiment(client: MlflowClient, uri: str, run_name: str) -> str:
    """Id of the run's experiment; one that was deleted comes back, since MLflow keeps its name taken."""
    name = f"milbench {run_name}".replace("/", "-")
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    place = None
    if uri.startswith("sqlite:///"):
        place = (Path(uri.removeprefix("sqlite:///")).parent / ARTIFACTS).as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def all_runs(client: MlflowClient, experiment: str) -> Iterator[Any]:
    """Every run of an experiment, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _metrics(trial: StoredTrial) -> list[Metric]:
    """Epoch metrics, and the test AUROC of every task; the prefix before the slash makes the chart's section."""
    from mlflow.entities import Metric

    now = _milliseconds(trial.info["finished_at"])
    history = trial.history()
    rows = [
        Metric(f"{name.split('_')[0]}/{name.split('_')[1]}", value, now, int(epoch))
        for name in ("train_loss", "val_loss", "val_auroc")
        for epoch, value in zip(history["epoch"], history[name], strict=True)
    ]
    scores = _test_scores(trial)
    if len(scores) > 1:
        rows += [Metric(f"test/auroc {task}", value, now, 0) for task, value in scores.items()]
    rows.append(Metric("test/auroc", mean_of_defined(_values(scores)), now, 0))
    rows += [
        Metric(f"cost/{name}", float(trial.info[name]), now, 0)
        for name in ("wall_seconds", "peak_bytes", "n_parameters")
    ]
    return [row for row in rows if math.isfinite(row.value)]


def _test_scores(trial: StoredTrial) -> dict[str, float]:
    table = trial.predictions()
    return {
        str(task): auroc(rows["target"].to_numpy(dtype=float), rows["probability"].to_numpy(dtype=float))
        for task, rows in table[table["role"] == "test"].groupby("task", sort=False)
    }


def _summary(trials: Sequence[StoredTrial], controls: set[str]) -> dict[str, float]:
    """Mean test AUROC by task, and over the tasks that are no controls; cost of all trials together."""
    by_task: dict[str, list[float]] = {}
    for trial in trials:
        for task, value in _test_scores(trial).items():
            by_task.setdefault(task, []).append(value)
    means = {task: mean_of_defined(_values(dict(enumerate(scores)))) for task, scores in by_task.items()}
    signal = {task: mean for task, mean in means.items() if task not in controls}
    values = {"test/auroc": mean_of_defined(_values(signal))}  # first: the compare view plots the first metric
    values |= {f"test/auroc {task}": value for task, value in means.items()}
    values["cost/train_seconds"] = sum(trial.info["train_seconds"] for trial in trials)
    values["cost/n_parameters"] = float(trials[0].info["n_parameters"])
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _values(scores: Mapping[Any, float]) -> Any:
    import numpy as np

    return np.array(list(scores.values()), dtype=float)


def _facts(info: Mapping[str, Any]) -> dict[str, Any]:
    """What one filters and groups by, as tags and as parameters: the compare view plots parameters only."""
    return {
        "model": info["model"],
        "dataset": info["dataset"],
        "task": _task(info),
        "fold": info["fold"],
        "seed": info["seed"],
    }


def _task(info: Mapping[str, Any]) -> str:
    return "all" if len(info["tasks"]) > 1 else str(info["tasks"][0])


def _parameters(info: Mapping[str, Any]) -> dict[str, Any]:
    recipe = {f"trainer.{key}": value for key, value in info["recipe"].items() if key not in ("name", "model")}
    model = {f"model.{key}": value for key, value in info["hyperparameters"].items()}
    return {**_facts(info), "protocol": info["protocol"], "split": info["split_sha256"][:8], **model, **recipe}


def _text(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


def _as_they_ran(trials: Iterable[StoredTrial]) -> list[StoredTrial]:
    """The trials in order of their start: a parent starts with the first that is published."""
    return sorted(trials, key=lambda trial: _started(trial.info))


def _started(info: Mapping[str, Any]) -> int:
    return _milliseconds(info["finished_at"]) - round(float(info["wall_seconds"]) * 1000)


def _milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)
