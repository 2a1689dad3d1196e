"""Tuning: a benchmark -> the searches that choose its settings, and the benchmark with what they chose.

A search is a run folder of its own, `RUN/tuning`: ordinary trials, each with a configuration's number. Kills, shards,
engines and merges are those of every run. What is chosen follows from the finished trials alone, so nothing needs to be
remembered between two commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import NamedTuple

import pandas as pd

import milbench
from milbench.cohorts.tuned import TunedSettings, read_tuned
from milbench.errors import DataError, StoreError, UsageError
from milbench.runs.config import RunConfig
from milbench.runs.preparation import Benchmark, moved_to
from milbench.search_space import Configuration, SearchSpace, space_from
from milbench.stats import search as search_scores
from milbench.store.files import write_atomically
from milbench.store.run_folder import CHOSEN, TUNING, UNTUNED
from milbench.trials.configurations import DEFAULT
from milbench.trials.request import Place, PlanRequest, Rung, Search
from milbench.trials.settings import drawn_for, place_of, refuse_arguments_of_no_model

KEPT_OF_A_RUNG = 3
"""Successive halving keeps a third of the configurations and trains them three times as long, so that each rung costs the
same number of bag-steps."""

LONGEST_DIVISOR = 9
"""The first rung trains for a ninth of the epochs at least: a shorter training says little of a longer one."""


def is_tuned(config: RunConfig) -> bool:
    """Whether settings are chosen by a search before anything else trains."""
    return config.tuning.configurations > 0


def searches(base: Benchmark) -> Iterator[Benchmark]:
    """The benchmark of the search; with halving, one for each rung, made when the trials of the one before it are done.

    Parameters
    ----------
    base : what is to be tuned. Its own trials do not matter.

    Raises
    ------
    UsageError : halving in shards, or a search space that no model can have.
    StoreError : the next rung is asked for and trials of the last one are left.
    """
    tuning = base.config.tuning
    if tuning.halving and base.config.engine.shard:
        raise UsageError(
            "--tune-halving and --shard do not go together: a rung starts from the results of all trials of the rung before "
            "it. Leave one of them out."
        )
    divisors = _divisors(base) if tuning.halving else [1]
    rungs: list[Rung] = []
    for divisor in divisors:
        if not rungs:
            numbers: dict[Place, Sequence[int]] = dict.fromkeys(_places(base), range(tuning.configurations))
        else:
            finished = _finished(base, rungs[-1])
            numbers = {place: _survivors(place, finished) for place in rungs[-1].numbers}
        rungs.append(Rung(numbers, divisor))
        yield _search(base, rungs)


def warnings_of_nesting(base: Benchmark) -> list[str]:
    """Sentences on cohorts whose tuned scores would not be those of patients that no choice has seen."""
    folds = {
        name: {t.fold for t in base.whole_plan if t.dataset == name} for name in {t.dataset for t in base.whole_plan}
    }
    return [
        f"{entry.cohort.name}: folds have test sides of their own, so a test patient of one fold is a validation patient of "
        "another, which the choice sees. Tune one fold at a time (--folds 0) if scores must be nested (docs/tuning.md)"
        for entry in base.entries
        if entry.split.test_side_differs and len(folds.get(entry.cohort.name, ())) > 1
    ]


def _search(base: Benchmark, rungs: Sequence[Rung]) -> Benchmark:
    folder = base.run.path / TUNING
    # `run` stays that of the whole, so that its run.yaml repeats the whole and not a search within the search. No model is
    # skipped after failures: they are those of configurations, and a choice needs the outcome of all
    config = replace(
        base.config,
        run=str(base.run.path),
        keep_weights=False,
        engine=replace(base.config.engine, max_failures=0),
        tracking=replace(base.config.tracking, enabled=False),
    )
    return moved_to(base, folder, config, _request(base, rungs))


def _request(base: Benchmark, rungs: Sequence[Rung]) -> PlanRequest:
    tuning = base.config.tuning
    search = Search(rungs, _spaces(base), tuning.seed, tuning.per == "task", tuning.test)
    return replace(base.request, search=search)


def _spaces(base: Benchmark) -> dict[str, SearchSpace]:
    """What the user draws instead of what models declare."""
    known = base.known_models
    for name in base.config.tuning.space:
        if name != "*" and name not in known:
            raise UsageError(
                f"tuning.space names the model '{name}', which is none. Known: {', '.join(known)}, and '*'."
            )
    spaces = {name: space_from(values, f"tuning.space.{name}") for name, values in base.config.tuning.space.items()}
    refuse_arguments_of_no_model(base.models, spaces.get("*", SearchSpace()).model)
    return spaces


def _places(base: Benchmark) -> list[Place]:
    """All that gets a configuration of its own."""
    per_task = base.config.tuning.per == "task"
    return list(dict.fromkeys(
        place_of(trial.dataset, trial.model, base.models[trial.model], trial.tasks, per_task=per_task)
        for trial in base.whole_plan
    ))  # fmt: skip


def _divisors(base: Benchmark) -> list[int]:
    """By how much the epochs of each rung are divided: 9, 3, 1, as far as there are configurations and epochs."""
    fewest_epochs = min((trial.recipe.epochs for trial in base.whole_plan), default=1)
    divisors, n_left = [1], base.config.tuning.configurations
    while divisors[0] * KEPT_OF_A_RUNG <= min(LONGEST_DIVISOR, fewest_epochs) and n_left > KEPT_OF_A_RUNG:
        divisors.insert(0, divisors[0] * KEPT_OF_A_RUNG)
        n_left = ceil(n_left / KEPT_OF_A_RUNG)
    return divisors


class _Finished(NamedTuple):
    """Results of one rung, all of whose trials have ended.

    Attributes
    ----------
    table : as `milbench.stats.search.tried` makes it.
    epochs : of the rung by place: what the table calls them.
    """

    rung: Rung
    table: pd.DataFrame
    epochs: dict[Place, int]

    def best(self, place: Place) -> list[int]:
        """Configurations that have a score, best first."""
        asked = self.rung.numbers[place]
        found = search_scores.best_of(self.table, place, self.epochs[place]) if place in self.epochs else []
        return [number for number in found if number in asked]

    def score(self, place: Place, number: int) -> float:
        """Validation score of a configuration; NaN if it has none."""
        mine = (self.table[search_scores.PLACE] == list(place)).all(axis=1) & (self.table["configuration"] == number)
        scores = self.table.loc[mine & (self.table["epochs"] == self.epochs.get(place, 0)), "score"]
        return float(scores.iloc[0]) if len(scores) else float("nan")


def _finished(base: Benchmark, rung: Rung) -> _Finished:
    """The rung's results.

    Raises
    ------
    StoreError : trials of the rung are neither done nor failed.
    """
    search = _search(base, [rung])
    left = [trial for trial in search.unfinished_trials() if not search.run.has_failed(trial.key)]
    if left:
        raise StoreError(
            f"{search.run.path} lacks {len(left)} trials of the search, such as {left[0].id}. Run the same command again; "
            "if it runs in shards, run and merge all of them first."
        )
    per_task = base.config.tuning.per == "task"
    epochs = {
        place_of(trial.dataset, trial.model, base.models[trial.model], trial.tasks, per_task=per_task): int(
            trial.search.get("epochs", 0)
        )
        for trial in search.trials
    }
    return _Finished(rung, search_scores.tried(search.run, per_task=per_task), epochs)


def _survivors(place: Place, finished: _Finished) -> list[int]:
    """Configurations that the next rung trains: the best third of the last one. The recipe's own always stays."""
    n_kept = ceil(len(finished.rung.numbers[place]) / KEPT_OF_A_RUNG)
    best = finished.best(place)[:n_kept]
    return sorted(best if DEFAULT in best else [DEFAULT, *best[: n_kept - 1]])


class Choice(NamedTuple):
    """What a search chose for a place.

    Attributes
    ----------
    score, default_score : validation scores of the chosen configuration and of the recipe's own; NaN = it has none.
    """

    configuration: Configuration
    score: float
    default_score: float


def choose(base: Benchmark, search: Benchmark) -> dict[Place, Choice]:
    """The configuration with the best validation score of every place; the recipe's own where none has a score.

    Parameters
    ----------
    search : the last one of `searches`, all of whose trials have ended.

    Raises
    ------
    StoreError : trials are left.
    """
    rungs = search.request.search.rungs if search.request.search else ()
    finished = _finished(base, rungs[-1])
    cohorts = {entry.cohort.name: entry.cohort for entry in base.entries}
    chosen = {}
    for place in finished.rung.numbers:
        number, model = (finished.best(place) or [DEFAULT])[0], base.models[place.model]
        drawn = drawn_for(number, place.model, model, cohorts[place.dataset], search.request)
        chosen[place] = Choice(drawn, finished.score(place, number), finished.score(place, DEFAULT))
    return chosen


def chosen_before(base: Benchmark) -> dict[Place, Choice] | None:
    """What a finished search in the folder chose; None if trials of it are left."""
    try:
        *_, last = searches(base)
        return choose(base, last)
    except StoreError:
        return None


def with_chosen(base: Benchmark, chosen: Mapping[Place, Choice]) -> Benchmark:
    """The benchmark whose models are trained with what was chosen for them.

    The folder may hold other models, from an earlier command. What was chosen for them keeps their trials in the tables.
    """
    drawn = {place: choice.configuration for place, choice in chosen.items()}
    others = {
        Place(entry.cohort.name, model, task): each
        for entry in base.entries
        for (model, task), each in _chosen_for_others(base, entry.cohort.name).items()
    }
    return moved_to(base, base.run.path, base.config, replace(base.request, chosen={**others, **drawn}))


def _chosen_for_others(base: Benchmark, cohort: str) -> dict[tuple[str, str], Configuration]:
    """What searches of the same budget chose for models that this command does not name; a budget of its own is none."""
    former = _read_chosen(chosen_file(base, cohort))
    if former is None or former.configurations != base.config.tuning.configurations:
        return {}
    return {place: each for place, each in former.chosen.items() if place[0] not in base.models}


def warnings_of_budgets(base: Benchmark) -> list[str]:
    """Sentences on models in the folder that chose among more or fewer configurations than this command asks for."""
    n, found = base.config.tuning.configurations, []
    for entry in base.entries:
        former = _read_chosen(chosen_file(base, entry.cohort.name))
        names = sorted({model for model, _ in former.chosen} - base.models.keys()) if former else []
        if former and names and former.configurations != n:
            found.append(
                f"{entry.cohort.name}: {', '.join(names)} chose among {former.configurations} configurations, and the models "
                f"of this command among {n}. Tables leave out the former. To have them in, run them with --tune {n} too"
            )
    return found


def untuned(base: Benchmark) -> Benchmark:
    """The benchmark with the recipe's own settings, beside the tuned one in a folder of its own."""
    folder = base.run.path / UNTUNED
    tracking = replace(base.config.tracking, enabled=False)
    tuning = replace(base.config.tuning, configurations=0, cohort=False)
    return moved_to(base, folder, replace(base.config, run=str(folder), tracking=tracking, tuning=tuning), base.request)


def write_chosen(base: Benchmark, chosen: Mapping[Place, Choice], command: str) -> list[Path]:
    """Files of chosen settings, one per cohort, in the search's folder; one that says the same is left as it is.

    A file keeps what was chosen for models that this command does not name, if they had as many configurations.

    Parameters
    ----------
    command : what the user typed, for the reader of the file.
    """
    written = []
    for entry in base.entries:
        mine = _chosen_for_others(base, entry.cohort.name) | {
            (place.model, place.task): choice.configuration
            for place, choice in chosen.items()
            if place.dataset == entry.cohort.name
        }
        made = f"{datetime.now(UTC):%Y-%m-%d}, milbench {milbench.__version__}"
        settings = TunedSettings(base.config.tuning.configurations, mine, entry.cohort.name, command, made)
        path = chosen_file(base, entry.cohort.name)
        if not _says_the_same(path, settings):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, settings.to_yaml().encode())
        written.append(path)
    return written


def chosen_file(base: Benchmark, cohort: str) -> Path:
    """Where the settings stand that were chosen for a cohort."""
    return base.run.path / TUNING / CHOSEN / f"{cohort}.yaml"


def _says_the_same(path: Path, settings: TunedSettings) -> bool:
    found = _read_chosen(path)
    return found is not None and (found.configurations, found.chosen) == (settings.configurations, settings.chosen)


def _read_chosen(path: Path) -> TunedSettings | None:
    """Settings in a file of a search; None if it is not there or nobody can read it: the search writes it anew."""
    try:
        return read_tuned(path)
    except DataError:
        return None
