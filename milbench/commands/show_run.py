"""What `milbench run` prints: what is compared, the table of results, what to do next; nothing computed here."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING, Any

from milbench.commands.terminal import finding, grid, line
from milbench.labels.finding import NOTE
from milbench.registry import import_remarks
from milbench.store.feature_facts import one_line
from milbench.store.pasteable import pasteable

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.cohorts.cohort import Cohort
    from milbench.runs.benchmark import Outcome
    from milbench.runs.preparation import Benchmark
    from milbench.store.run import Run

MAX_WARNINGS = 8
"""Warnings printed for one cohort; all of them stand in datasets.json."""


def benchmark_header(console: Console, benchmark: Benchmark, *, written: bool) -> None:
    """Print what is compared, on what, and what the cohorts' audits found.

    Parameters
    ----------
    written : whether the command writes a run folder, which keeps all notes.
    """
    from milbench.runs.overrides import overridden_arguments  # these bring torch, which a report need not wait for
    from milbench.runs.preparation import follows_tuned

    for entry in benchmark.entries:
        cohort, split = entry.cohort, entry.split
        line(console, f"{cohort.name}: {_slides_and_patients(cohort)}, "
              f"{len(cohort.tasks)} tasks, {cohort.in_features}-d features, splits {split.protocol} ({split.sha256[:8]})")  # fmt: skip
        if entry.features:
            line(console, f"  features: {one_line(entry.features)}")
        if cohort.trainer_defaults:
            line(console, f"  settings for its size, the same for all models: {settings_text(cohort.trainer_defaults)}")
        if cohort.tuned and follows_tuned(benchmark):
            line(console, f"  settings of each model: {cohort.tuned}, chosen on validation sides ({cohort.tuned.made})")
        for sentence in overridden_arguments(benchmark, cohort):
            line(console, f"  {sentence}")
        warnings = [found for found in entry.findings if found.severity != NOTE]
        for found in warnings[:MAX_WARNINGS]:
            finding(console, found, indent="  ")
        notes = [*cohort.notes, *entry.split.notes]
        for note in notes[:MAX_WARNINGS]:
            line(console, f"  note: {note}")
        left = len(entry.notes) - len(warnings[:MAX_WARNINGS]) - len(notes[:MAX_WARNINGS])
        if left:
            where = f", in {benchmark.run.path}/datasets.json" if written else " (see `milbench data check`)"
            line(console, f"  and {left} more note{'s' * (left != 1)}{where}")
    for remark in import_remarks():
        line(console, f"warning: {remark}")
    n = benchmark.config.tuning.configurations
    tuned = f", tuned: {n} configurations per model" if n else ""
    line(console, f"protocol {benchmark.config.protocol}{tuned}, run folder {benchmark.run.path}")


def _slides_and_patients(cohort: Cohort) -> str:
    slides = cohort.by_slide.slides
    told = f"{len(slides)} slides, {slides['patient_id'].nunique()} patients"
    return told if cohort.of_slides is None else f"{told}, bag: {cohort.bag}"


def outcome(console: Console, result: Outcome) -> None:
    """Print the result table, where the run lies, and what to do next."""
    results(console, result)
    next_steps(console, result)


def results(console: Console, result: Outcome) -> None:
    """Print the result table, how many trials ended how, and where the run lies."""
    run = result.run
    if run.trials():
        print_scores(console, run)
    counts(console, result)
    if not result.left and (missing := unfinished(run)):
        line(console, f"warning: {missing}")
    for failure in run.failures()[:MAX_WARNINGS]:
        line(console, f"  failed: {failure['id']}: {failure['type']}: {failure['message']}")
    line(console, f"run: {run.path}")


def counts(console: Console, result: Outcome) -> None:
    """Print how many trials ended how."""
    parts = {"done": result.done, "done before": result.already, "failed": result.failed}
    parts |= {"skipped (see --max-failures)": result.skipped, "left": result.left}
    line(console, ", ".join(f"{count} trials {name}" for name, count in parts.items() if count))


def next_steps(console: Console, result: Outcome) -> None:
    """Print the commands that make sense after a run that ended so."""
    for number, step in enumerate(_next_steps(result, has_trials=bool(result.run.trials()))):
        line(console, f"{'      ' if number else 'next: '}{step}")


def _next_steps(result: Outcome, *, has_trials: bool) -> list[str]:
    """Commands that make sense after a run that ended so."""
    from milbench.engines.shards import parse_shard

    run, engine = result.run, result.run.config.get("engine", {})
    if result.left:
        return ["the same command again: milbench goes on from here, finished trials are kept"]
    if shard := parse_shard(engine.get("shard", "")):
        whole = run.path.name.removesuffix(f"-shard-{shard.file_name}")
        if whole == run.path.name:  # a folder of the user's naming
            return [f"milbench merge WHOLE {run.path} and the folders of the other shards, when all are here"]
        every = run.path.with_name(f"{whole}-shard-*-of-{shard.count}")
        return [f"milbench merge {run.path.with_name(whole)} {every}, when all are here"]
    steps = [f"milbench report {pasteable(run.path)}"] if has_trials else []
    return [*steps, "milbench ui"] if run.config.get("tracking", {}).get("enabled", True) else steps


def unfinished(run: Run) -> str:
    """A sentence on planned trials that are not done; "" if all are."""
    from milbench.store.question import stale_sentences

    planned, trials = run.planned(), run.trials()
    if len(trials) == len(planned):
        return ""
    absent = {slot.model for slot in run.slots()} - {trial.info["model"] for trial in trials}
    none = f"; none of {', '.join(sorted(absent))}" if absent else ""
    stale = "".join(f" {sentence}." for sentence in stale_sentences(run.stale()))
    damaged = {trial_id: why for trial_id in absent_ids(run) if (why := run.damage(trial_id))}
    broken = "".join(f" Damaged: {id_}: {why.removesuffix('.')}." for id_, why in list(damaged.items())[:MAX_WARNINGS])
    return f"{len(trials)} of {len(planned)} planned trials of {run.path} are done{none}.{stale and ' Left out:'}{stale}{broken}"


def absent_ids(run: Run) -> list[str]:
    """Ids of planned trials that are not done."""
    return sorted(set(run.planned().values()) - {trial.id for trial in run.trials()})


def print_scores(console: Console, run: Run) -> None:
    """Print one table per kind of tasks: a mean over several kinds would mean nothing."""
    from milbench.stats.metric import METRICS
    from milbench.stats.scores import kinds_of, score_table, summary

    for kind in kinds_of([run]):
        _print_results(console, summary(score_table([run], kind)), run.datasets)
        line(console, f"mean test {METRICS[kind].title} over tasks ± standard deviation over folds and seeds (training "
              "variability, not a confidence interval); control tasks are left out")  # fmt: skip


def _print_results(console: Console, summary: Any, datasets: Mapping[str, Any]) -> None:
    """Print models × cohorts, from the rows of `milbench.stats.scores.summary`."""
    names = list(dict.fromkeys(summary["dataset"]))
    columns = ["model", *(str(datasets[name]["title"]) for name in names)]
    rows = []
    for model, group in summary.groupby("model", sort=False):
        cells = {row.dataset: _score(row) for row in group.itertuples()}
        rows.append([str(group["title"].iloc[0] or model), *(cells.get(name, "-") for name in names)])
    grid(console, columns, rows, names=("model",), right=columns[1:])


def _score(row: Any) -> str:
    """Mean and spread; no spread for a single fold, and no number for a model that lacks trials which others have."""
    if row.n_missing:
        return f"incomplete ({row.n_missing} missing)"
    return f"{row.mean:.3f}" if isnan(row.sd) else f"{row.mean:.3f} ± {row.sd:.3f}"


def settings_text(settings: Mapping[str, Any]) -> str:
    """ "hidden=64, lr=0.005" for captions and lines."""
    return ", ".join(f"{key}={value}" for key, value in settings.items())
