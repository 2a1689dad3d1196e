"""What the command line prints: tables and closing lines, nothing computed here."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from math import isnan
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from milbench.datasets import Dataset
    from milbench.models import MILModel
    from milbench.runs.benchmark import Outcome
    from milbench.runs.merge import Merged
    from milbench.runs.preparation import Benchmark
    from milbench.runs.status import RunStatus
    from milbench.store.run import Run

MAX_WARNINGS = 8
"""Warnings printed for one cohort; all of them stand in datasets.json."""


def benchmark_header(console: Console, benchmark: Benchmark) -> None:
    """Print what is compared, on what, and what the cohorts' audits found."""
    for entry in benchmark.entries:
        cohort, split = entry.cohort, entry.split
        _line(console, f"{cohort.name}: {len(cohort.slides)} slides, {cohort.slides['patient_id'].nunique()} patients, "
              f"{len(cohort.tasks)} tasks, {cohort.in_features}-d features, splits {split.protocol} ({split.sha256[:8]})")  # fmt: skip
        defaults = {**cohort.model_defaults, **cohort.trainer_defaults}
        if defaults:
            _line(console, f"  settings for its size, the same for all models: {settings_text(defaults)}")
        notes = [*cohort.notes, *entry.split.notes, *entry.audit.warnings]
        for note in notes[:MAX_WARNINGS]:
            _line(console, f"  note: {note}")
        if len(notes) > MAX_WARNINGS:
            _line(console, f"  and {len(notes) - MAX_WARNINGS} more notes, in {benchmark.run.path}/datasets.json")
    _line(console, f"protocol {benchmark.config.protocol}, run folder {benchmark.run.path}")


def outcome(console: Console, result: Outcome) -> None:
    """Print the result table, where the run lies, and what to do next."""
    from milbench.stats.scores import score_table, summary

    run = result.run
    trials = run.trials()
    if trials:
        console.print(result_table(summary(score_table([run])), run.datasets))
        _line(console, "mean test AUROC over tasks ± standard deviation over folds and seeds (training variability, "
              "not a confidence interval); control tasks are left out")  # fmt: skip
    parts = {"done": result.done, "done before": result.already, "failed": result.failed}
    parts |= {"skipped (see --max-failures)": result.skipped, "left": result.left}
    _line(console, ", ".join(f"{count} trials {name}" for name, count in parts.items() if count))
    for failure in run.failures()[:MAX_WARNINGS]:
        _line(console, f"  failed: {failure['id']}: {failure['type']}: {failure['message']}")
    _line(console, f"run: {run.path}")
    for number, step in enumerate(_next_steps(result, has_trials=bool(trials))):
        _line(console, f"{'      ' if number else 'next: '}{step}")


def _next_steps(result: Outcome, *, has_trials: bool) -> list[str]:
    """Commands that make sense after a run that ended so."""
    from milbench.engines.shards import parse_shard

    run, engine = result.run, result.run.config.get("engine", {})
    if result.left:
        return ["the same command again; it goes on from here"]
    if shard := parse_shard(engine.get("shard", "")):
        whole = run.path.name.removesuffix(f"-shard-{shard.file_name}")
        if whole == run.path.name:  # a folder of the user's naming
            return [f"milbench merge WHOLE {run.path} and the folders of the other shards, when all are here"]
        every = run.path.with_name(f"{whole}-shard-*-of-{shard.count}")
        return [f"milbench merge {run.path.with_name(whole)} {every}, when all are here"]
    steps = [f"milbench report {run.path}"] if has_trials else []
    return [*steps, "milbench ui"] if run.config.get("tracking", {}).get("enabled", True) else steps


def unfinished(run: Run) -> str:
    """A sentence on planned trials that are not done; "" if all are."""
    planned, trials = run.planned(), run.trials()
    if len(trials) == len(planned):
        return ""
    absent = {slot.split("/")[1] for slot in planned} - {trial.info["model"] for trial in trials}
    none = f"; none of {', '.join(sorted(absent))}" if absent else ""
    return f"{len(trials)} of {len(planned)} planned trials of {run.path} are done{none}."


def result_table(summary: Any, datasets: Mapping[str, Any]) -> Table:
    """Models × cohorts, from the rows of `milbench.stats.scores.summary`."""
    names = list(dict.fromkeys(summary["dataset"]))
    table = Table(title=None)
    table.add_column("model")
    for name in names:
        table.add_column(datasets[name]["title"], justify="right")
    for model, rows in summary.groupby("model", sort=False):
        cells = {row.dataset: _score(row) for row in rows.itertuples()}
        table.add_row(str(rows["title"].iloc[0] or model), *(cells.get(name, "-") for name in names))
    return table


def _score(row: Any) -> str:
    """Mean and spread; no spread for a single fold, and no number for a model that lacks trials which others have."""
    if row.n_missing:
        return f"incomplete ({row.n_missing} missing)"
    return f"{row.mean:.3f}" if isnan(row.sd) else f"{row.mean:.3f} ± {row.sd:.3f}"


def status(console: Console, run: Run, found: RunStatus) -> None:
    """Print trials by model and dataset, and who computes what right now."""
    from milbench.runs.progress import duration

    table = Table()
    for column in ("dataset", "model", "done", "running", "failed", "left"):
        table.add_column(column, justify="left" if column in {"dataset", "model"} else "right")
    for pair, count in found.counts.items():
        table.add_row(*pair, *(str(number) for number in (count.done, count.running, count.failed, count.left)))
    console.print(table)
    for trial_id, claim in found.running:
        _line(console, f"running: {trial_id} on {claim.host}, process {claim.pid}, "
              f"for {duration(max(time.time() - claim.since, 0))}")  # fmt: skip
    if found.shards:
        _line(console, f"shards in this folder: {', '.join(found.shards)}")
    _line(console, f"run: {run.path}")


def merged(console: Console, result: Merged) -> None:
    """Print what a merge found, and what to do next."""
    parts = {"": result.n_trials, " left out, damaged": len(result.damaged), " not done anywhere": result.left}
    _line(console, ", ".join(f"{count} trials{what}" for what, count in parts.items() if count or not what))
    for trial_id in result.damaged:
        _line(console, f"  damaged: {trial_id}")
    for trial_id in result.conflicts:
        _line(console, f"  conflict: {trial_id} has other bytes in another folder; the one that was there is kept")
    for note in result.notes:
        _line(console, f"  note: {note}")
    _line(console, f"run: {result.run.path}\nnext: milbench report {result.run.path}")


def plan(console: Console, benchmark: Benchmark) -> None:
    """Print numbers of trials by model and dataset, of bags, and a rough estimate of time."""
    benchmark_header(console, benchmark)
    from milbench.runs.estimate import estimated_seconds
    from milbench.runs.progress import duration

    todo = [trial for trial in benchmark.trials if benchmark.run.trial(trial.id) is None]
    table = Table()
    for column in ("dataset", "model", "trials", "to do", "epochs", "bags a trial"):
        table.add_column(column, justify="left" if column in {"dataset", "model"} else "right")
    planned = Counter((trial.dataset, trial.model) for trial in benchmark.trials)
    left = Counter((trial.dataset, trial.model) for trial in todo)
    recipes = {(trial.dataset, trial.model): trial.recipe for trial in benchmark.trials}
    sizes = {entry.cohort.name: len(entry.cohort.slides) for entry in benchmark.entries}
    for pair, count in planned.items():
        table.add_row(*pair, str(count), str(left[pair]), str(recipes[pair].epochs), str(sizes[pair[0]]))
    console.print(table)
    seconds, how = estimated_seconds(benchmark)
    _line(console, f"{len(benchmark.trials)} trials, {len(todo)} to do; about {duration(seconds)} with "
          f"{os.cpu_count()} cores ({how})")  # fmt: skip


def models(console: Console, known: Mapping[str, type[MILModel]]) -> None:
    """Print every registered model with what it is and where it comes from."""
    table = Table()
    table.add_column("name", no_wrap=True)
    for column in ("title", "tasks", "order of patches", "paper", "official code"):
        table.add_column(column)
    for name, model in known.items():
        info = model.info
        table.add_row(name, info.title, info.tasks, "matters" if info.order_matters else "-", info.paper, info.official)
    console.print(table)


def datasets(console: Console, known: Iterable[Dataset]) -> None:
    """Print every catalogue entry."""
    table = Table()
    table.add_column("name", no_wrap=True)
    for column in ("slides", "patients", "tasks", "splits", "what"):
        table.add_column(column, justify="right" if column in {"slides", "patients"} else "left")
    for entry in known:
        tasks = ", ".join(entry.tasks)
        table.add_row(entry.name, str(entry.n_slides), str(entry.n_patients), tasks, entry.splits, entry.description)
    console.print(table)


def settings_text(settings: Mapping[str, Any]) -> str:
    """ "hidden=64, lr=0.005" for captions and lines."""
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
