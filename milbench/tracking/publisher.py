"""Publisher: stored trials -> MLflow's runs. The store is the truth; MLflow shows it and can be made anew from it.

Runs form a tree: one parent per dataset × model with summary metrics, one child per trial.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from milbench.errors import MilbenchError
from milbench.store.pasteable import pasteable
from milbench.store.run import Run
from milbench.store.trial import StoredTrial
from milbench.tracking.client import all_runs, client_of, experiment_of
from milbench.tracking.company import Company, one_at_a_time
from milbench.tracking.values import (
    accepted_name,
    as_text,
    facts_of,
    features_of,
    metrics_of,
    milliseconds,
    parameters_of,
    started,
    summary_of,
    task_of,
    true_names,
)  # fmt: skip
from milbench.visible import without_passwords

if TYPE_CHECKING:
    from mlflow.entities import Metric

METRICS_PER_CALL, OTHERS_PER_CALL = 800, 100
"""MLflow's limits for one `log_batch` are 1000 entries in all, 100 parameters and 100 tags."""

TRIAL_KEY, KIND, DELETED = "milbench.trial_key", "milbench.kind", "milbench.deleted"

TOLD_EACH_TIME = "cost/train_seconds"
"""A metric that every summary of a parent holds, whatever its tasks."""

NO_TAGS: Mapping[str, str] = MappingProxyType({})

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
        self.uri, self.run = uri, run
        self.client = client_of(uri)
        with one_at_a_time(run):
            self.experiment = experiment_of(self.client, uri, run.name)
            self.client.set_experiment_tag(
                self.experiment, f"mlflow.sharedViewState.{BEST_FIRST}", json.dumps(SAVED_VIEW)
            )
            self.company = Company(run)  # with nobody writing, and before looking: all that comes later is noticed
        self.parents: dict[tuple[str, str], str] = {}
        self.refused: dict[str, Exception] = {}
        self.published: set[str] = set()
        self.halves: dict[str, str] = {}
        self._look_around()

    def _look_around(self) -> None:
        """Learn what is there; what a restored experiment brought back and is there twice, or half, is deleted again."""
        for run in list(all_runs(self.client, self.experiment)):
            key, run_id = run.data.tags.get(TRIAL_KEY), run.info.run_id
            if DELETED in run.data.tags or key in self.published:
                self._delete(run_id)
            elif key is not None and run.info.status == "FINISHED":
                self.published.add(key)
            elif key is not None:
                self.halves[key] = run_id
        for key in self.published & self.halves.keys():
            self._delete(self.halves.pop(key))

    def _delete(self, run_id: str) -> None:
        """Delete a run for good: restoring an experiment brings back all of its runs, and the tag says which to delete."""
        self.client.set_tag(run_id, DELETED, "yes")
        self.client.delete_run(run_id)

    def publish_or_note(self, trial: StoredTrial) -> None:
        """Write one child run; a trial that MLflow refuses is noted in `refused`, and the next ones are none the worse."""
        with self._noting(trial.id):
            self.publish(trial)

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Note an error of a value that MLflow refuses; raise one of an MLflow that is gone."""
        try:
            yield
        except (MilbenchError, TimeoutError):
            raise
        except Exception as error:
            with suppress(Exception):
                self.client.get_experiment(self.experiment)
                self.refused[what] = error
                return
            raise

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
            self._delete(half)
        return is_whole

    def _write(self, trial: StoredTrial) -> None:
        info = trial.info
        parent = self._parent(info)
        name = f"{info['model']} {task_of(info)} fold{info['fold']} seed{info['seed']}"
        tags = {**facts_of(info), TRIAL_KEY: info["key"], KIND: "trial", "mlflow.parentRunId": parent}
        tags |= true_names(info["tasks"])
        made = features_of(self.run.datasets.get(info["dataset"], {}))
        metrics, parameters = metrics_of(trial), {**parameters_of(info), **made}
        child = self.client.create_run(self.experiment, start_time=started(info), tags=as_text(tags), run_name=name)
        try:
            self._log(child.info.run_id, metrics, parameters)
            self.client.set_terminated(child.info.run_id, "FINISHED", milliseconds(info["finished_at"]))
        except Exception:
            with suppress(Exception):
                self._delete(child.info.run_id)
            raise

    def _find(self, tags: Mapping[str, str]) -> list[Any]:
        """Runs with these tags, none of whose values holds a quote."""
        text = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return list(all_runs(self.client, self.experiment, text))

    def summarise(self, step: Callable[[], None] = lambda: None) -> None:
        """Put the summary metrics of every dataset × model on its parent, which the chart view shows first.

        `step` is called after each.
        """
        groups: dict[tuple[str, str], list[StoredTrial]] = {}
        current = self.run.trials()
        self._hide_all_but(current)
        for trial in current:
            groups.setdefault((trial.info["dataset"], trial.info["model"]), []).append(trial)
        for (dataset, model), trials in groups.items():
            with self._noting(f"{dataset} {model}"):
                self._summarise(dataset, trials)
            step()

    def _summarise(self, dataset: str, trials: Sequence[StoredTrial]) -> None:
        from mlflow.entities import Metric

        with one_at_a_time(self.run):  # its trials may all be another process's
            parent = self._parent(trials[0].info)
        controls = set(self.run.datasets[dataset].get("control_tasks", []))
        finished = max(milliseconds(trial.info["finished_at"]) for trial in trials)
        values = summary_of(trials, controls)
        at = self._time_of_summary(parent, values, finished)
        metrics = [Metric(name, value, at, 0) for name, value in values.items()]
        self._log(parent, metrics, {}, true_names({task for trial in trials for task in trial.info["tasks"]}))
        self.client.set_terminated(parent, "FINISHED", finished)

    def _time_of_summary(self, parent: str, values: Mapping[str, float], finished: int) -> int:
        """Milliseconds at which a parent is told its summary, so that MLflow shows this one and none before.

        Of values of one step MLflow shows the latest, and of one millisecond the largest. A trial of another machine may have
        ended before those that are there, and trials may go, so the end of the last trial is not enough.
        """
        shown = self.client.get_run(parent).data.metrics
        before = self.client.get_metric_history(parent, TOLD_EACH_TIME) if shown else []
        last = max((told.timestamp for told in before), default=0)
        is_shown = all(shown.get(name) == value for name, value in values.items())
        return last if is_shown else max(finished, last + 1)

    def _hide_all_but(self, current: Sequence[StoredTrial]) -> None:
        """Delete MLflow's copies of trials that answer another question, and parents that are left without trials.

        MLflow keeps deleted runs until its garbage is collected, and the run folder keeps the trials.
        """
        stale = {trial.info.get("key") for trial in self.run.stale()} - {trial.info["key"] for trial in current}
        if not stale:
            return
        pairs = {(str(trial.info["dataset"]), str(trial.info["model"])) for trial in current}
        with one_at_a_time(self.run):
            for known in all_runs(self.client, self.experiment):
                tags = known.data.tags
                is_bare_parent = tags.get(KIND) == "parent" and (tags["dataset"], tags["model"]) not in pairs
                if tags.get(TRIAL_KEY) in stale or is_bare_parent:
                    self.client.delete_run(known.info.run_id)
                    self.published.discard(tags.get(TRIAL_KEY, ""))
        self.parents = {pair: parent for pair, parent in self.parents.items() if pair in pairs}

    def _parent(self, info: Mapping[str, Any]) -> str:
        """Run of the trial's dataset × model, made if it is not there; call it with the lock held."""
        pair = info["dataset"], info["model"]
        if pair not in self.parents:
            # compared here: a name may hold both of the quotes that a filter knows
            parents = [run for run in self._find({KIND: "parent"}) if DELETED not in run.data.tags]
            found = [run for run in parents if (run.data.tags["dataset"], run.data.tags["model"]) == pair]
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

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric],
        parameters: Mapping[str, Any],
        tags: Mapping[str, str] = NO_TAGS,
    ) -> None:
        from mlflow.entities import Param, RunTag

        given = [Param(accepted_name(key), value[:500]) for key, value in as_text(parameters).items()]
        told = [RunTag(key, value) for key, value in tags.items()]
        while metrics or given or told:
            self.client.log_batch(
                run_id,
                metrics=metrics[:METRICS_PER_CALL],
                params=given[:OTHERS_PER_CALL],
                tags=told[:OTHERS_PER_CALL],
            )
            metrics, given = metrics[METRICS_PER_CALL:], given[OTHERS_PER_CALL:]
            told = told[OTHERS_PER_CALL:]


def refusals(publisher: Publisher) -> str:
    """A message on the trials that MLflow refused."""
    first, error = next(iter(publisher.refused.items()))
    return (
        f"MLflow refused {len(publisher.refused)} of the runs, the first of them {first} ({reason_of(error)}). "
        f"All others are there, and the results are complete in {publisher.run.path}. "
        f"Try again later: milbench track {publisher.run.path} --uri {without_passwords(publisher.uri)}"
    )


def unreachable(uri: str, run: Run, error: Exception) -> str:
    """A message on a server or database that could not be written, without its password."""
    shown = without_passwords(uri)
    return (
        f"MLflow at {shown} could not be written ({reason_of(error).replace(uri, shown)}). The results are complete in "
        f"{run.path}; publish them later: milbench track {pasteable(run.path)} --uri {shown}"
    )


def reason_of(error: Exception) -> str:
    """The first line of an error, shortened."""
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
