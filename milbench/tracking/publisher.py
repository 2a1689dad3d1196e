"""Publisher: stored trials -> MLflow's runs. The store is the truth; MLflow shows it and can be made anew from it.

Runs form a tree: one parent per dataset × model with summary metrics, one child per trial.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from milbench.store.pasteable import pasteable
from milbench.store.run import Run
from milbench.store.trial import StoredTrial
from milbench.tracking.client import all_runs, client_of, experiment_of, without_password
from milbench.tracking.company import Company, one_at_a_time
from milbench.tracking.values import (
    as_text,
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


class Publisher:
    """Writes one run's trials; looks up what is there already, so that nothing is doubled."""

    def __init__(self, uri: str, run: Run) -> None:
        self.run = run
        self.client = client_of(uri)
        with one_at_a_time(run):
            self.experiment = experiment_of(self.client, uri, run.name)
            self.client.set_experiment_tag(
                self.experiment, f"mlflow.sharedViewState.{BEST_FIRST}", json.dumps(SAVED_VIEW)
            )
            self.company = Company(run)  # with nobody writing, and before looking: all that comes later is noticed
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
        with one_at_a_time(self.run):
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
            with one_at_a_time(self.run):  # its trials may all be another process's
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


def unreachable(uri: str, run: Run, error: Exception) -> str:
    """A message on a server or database that could not be written, without its password."""
    shown = without_password(uri)
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    reason = reason.replace(uri, shown)
    return (
        f"MLflow at {shown} could not be written ({reason}). The results are complete in {run.path}; "
        f"publish them later: milbench track {pasteable(run.path)} --uri {shown}"
    )
