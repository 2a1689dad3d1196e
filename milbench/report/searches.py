"""Searches: what a report says of the searches that chose the settings of its runs, read from the folders beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from milbench.cohorts.tuned import TunedSettings, read_tuned
from milbench.endpoints.endpoint import Kind
from milbench.errors import StoreError
from milbench.search_space import Configuration
from milbench.stats.search import PLACE, BudgetCurve, budget_curve, mean_curve, scored, spent, trials_of_search
from milbench.stats.searched_tests import scores_by_configuration
from milbench.store.run import Run, holds_run, open_run
from milbench.store.run_folder import CHOSEN, TUNING, UNTUNED
from milbench.store.slot import Slot

Place = tuple[str, str]
"""Model, and the task if tasks are tuned apart; else ""."""

DEFAULT = 0
"""Number of the configuration that nothing was drawn for."""


@dataclass(frozen=True)
class SearchOfCohort:
    """How the settings of all models were chosen on one cohort.

    Attributes
    ----------
    run : its trials.
    chosen : configuration by place.
    configurations : how many each place had.
    per_task : whether tasks are tuned apart.
    halving : whether most configurations were trained for fewer epochs than others.
    scores : validation score by place and configuration, NaN where a training failed; of full-length trainings.
    costs : rows of `milbench.stats.search.spent` by place.
    tests : test score by place and configuration; empty if no test side is predicted.
    n_missing : trainings of the plan that neither finished nor failed, such as those that somebody deleted.
    """

    run: Run
    chosen: Mapping[Place, Configuration]
    configurations: int
    per_task: bool
    halving: bool
    scores: Mapping[Place, Mapping[int, float]]
    costs: Mapping[Place, Mapping[str, Any]]
    tests: Mapping[Place, Mapping[int, float]] = field(default_factory=dict)
    n_missing: int = 0

    def score(self, place: Place, number: int) -> float:
        """Validation score of a configuration; NaN if it has none."""
        return self.scores.get(place, {}).get(number, float("nan"))

    def curve(self, model: str) -> BudgetCurve | None:
        """Expected best by number of configurations; None if not all were trained for as long, or nothing has a score."""
        places = [place for place in self.chosen if place[0] == model and place in self.scores]
        if self.halving or not places:
            return None
        return mean_curve([self._curve(place) for place in places])

    def _curve(self, place: Place) -> BudgetCurve:
        numbers, tests = range(self.configurations), self.tests.get(place)
        of_test = None if tests is None else [tests.get(number, float("nan")) for number in numbers]
        return budget_curve([self.score(place, number) for number in numbers], of_test)


def is_tuned(run: Run) -> bool:
    """Whether the run's settings were chosen by a search of its own."""
    return configurations_of(run) > 0 and holds_run(run.path / TUNING)


def configurations_of(run: Run) -> int:
    """How many configurations each model of the run had to choose from; 0 if the run chose nothing itself."""
    tuning = run.config.get("tuning")
    found = tuning.get("configurations", 0) if isinstance(tuning, Mapping) else 0
    return found if isinstance(found, int) else 0


def refuse_searches(runs: Sequence[Run]) -> None:
    """Raise if a run is the search of another: its trials differ in settings, so no table can put them side by side."""
    for run in runs:
        if run.is_search:
            raise StoreError(
                f"{run.path} holds the search of a tuned run, whose trials try settings. The report of the run shows the "
                f"search too: milbench report {run.path.parent}"
            )


def untuned_runs(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs with their default settings in place of tuned ones; none if no run is tuned, or one is not compared."""
    tuned = [run for run in runs if is_tuned(run)]
    if not tuned or not all(holds_run(run.path / UNTUNED) for run in tuned):
        return ()
    found = tuple(open_run(run.path / UNTUNED).snapshot() if run in tuned else run for run in runs)
    return found if all(run.trials() for run in found) else ()


def searches_of(runs: Sequence[Run]) -> dict[str, SearchOfCohort]:
    """By cohort the search that chose its settings, without test scores: see `with_tests`."""
    return {name: search for run in runs if is_tuned(run) for name, search in _searches_of(run).items()}


def with_tests(searches: Mapping[str, SearchOfCohort], kind: Kind) -> dict[str, SearchOfCohort]:
    """The searches with the test scores of tasks of one kind. Validation scores are of tasks of all kinds."""
    return {name: replace(search, tests=_tests(name, search, kind)) for name, search in searches.items()}


def _tests(name: str, search: SearchOfCohort, kind: Kind) -> dict[Place, dict[int, float]]:
    table = scores_by_configuration(search.run, kind, per_task=search.per_task)
    return _by_place(table[(table["dataset"] == name) & (table["configuration"] < search.configurations)])


def _searches_of(run: Run) -> dict[str, SearchOfCohort]:
    search, per_task = open_run(run.path / TUNING).snapshot(), run.config["tuning"].get("per") == "task"
    files = {name: search.path / CHOSEN / f"{name}.yaml" for name in run.datasets}
    chosen = {name: read_tuned(path) for name, path in files.items() if path.exists()}
    rows = trials_of_search(search, per_task=per_task)
    return {
        name: _search(name, search, settings, rows[rows["dataset"] == name], per_task=per_task)
        for name, settings in chosen.items()
    }


def _search(name: str, run: Run, settings: TunedSettings, rows: pd.DataFrame, *, per_task: bool) -> SearchOfCohort:
    """The search of one cohort. A later one may try more configurations: only those that were chosen from count."""
    rows = rows[rows["configuration"] < settings.configurations]
    table = scored(rows)
    planned = [slot for slot in run.slots() if slot.dataset == name and _is_below(slot, settings.configurations)]
    return SearchOfCohort(
        run=run,
        chosen=settings.chosen,
        configurations=settings.configurations,
        per_task=per_task,
        halving=bool((rows["epochs"] > 0).any()),
        scores=_by_place(table[table["epochs"] == 0]),
        costs={(str(row["model"]), str(row["task"])): row for row in spent(rows).to_dict("records")},
        n_missing=max(0, len(planned) - len(rows)),
    )


def _is_below(slot: Slot, n: int) -> bool:
    return slot.configuration is not None and slot.configuration < n


def _by_place(frame: pd.DataFrame) -> dict[Place, dict[int, float]]:
    return {
        (str(model), str(task)): dict(zip(mine["configuration"].astype(int), mine["score"].astype(float), strict=True))
        for (_, model, task), mine in frame.groupby(PLACE, sort=False)
    }
