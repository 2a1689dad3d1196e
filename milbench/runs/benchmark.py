"""Benchmark: what was prepared -> passes -> engine -> run folder and tracking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from milbench.engines.pools import open_pool
from milbench.engines.shards import write_shard
from milbench.engines.supervisor import Interrupts, execute
from milbench.errors import StoreError
from milbench.intake.unusable import refuse_unusable
from milbench.runs.config import RunConfig, different_settings
from milbench.runs.environment import describe_environment
from milbench.runs.passes import passes_of, pool_settings, residencies
from milbench.runs.preparation import Benchmark, Entry
from milbench.runs.progress import Progress
from milbench.store.files import write_atomically, writing
from milbench.store.run import Run, open_run
from milbench.store.trial import StoredTrial
from milbench.tracking.client import default_uri
from milbench.tracking.tracker import Tracker
from milbench.training.precision import check_precision
from milbench.trials.job import Status
from milbench.trials.plan import Trial


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    run : the run on disk.
    done, already, failed : numbers of trials; `already` were finished before.
    skipped : trials of models that were given up (`engine.max_failures`).
    left : trials that an interrupt left undone.
    interrupted : whether someone asked to stop.
    refused : message of the bad input that stopped the run; empty if none did.
    """

    run: Run
    done: int
    already: int
    failed: int
    skipped: int
    left: int
    interrupted: bool
    refused: str


def run_benchmark(benchmark: Benchmark, progress: Progress) -> Outcome:
    """Run what is not done yet, showing progress; results lie in the run folder.

    Raises
    ------
    StoreError : the run folder cannot be written, or holds a run with other settings.
    KeyboardInterrupt : stopped at once by a second Ctrl-C.
    """
    run, config = benchmark.run, benchmark.config
    _refuse_other_settings(run, config)
    settings = pool_settings(benchmark)
    slow = "" if settings.is_elsewhere else check_precision(config.precision, torch.device(settings.device))
    _write_header(benchmark)
    todo = [trial for trial in benchmark.trials if run.trial(trial.id) is None]
    _warn_of_changed_sources(benchmark, progress)
    for sentence in _feature_notes(benchmark, todo):
        progress.note(sentence)
    passes = passes_of(benchmark, todo, settings)
    # two at least: a lone worker would be this process, which a trial may kill
    if passes and not settings.is_elsewhere:
        settings = replace(settings, workers=min(settings.workers, max(len(passes), 2)))
    for sentence in filter(None, [slow, *residencies(benchmark, settings)] if todo else ()):
        progress.note(sentence)
    progress.begin(len(benchmark.trials), [(t.dataset, t.model) for t in todo], settings.width, settings.place)
    interrupts = Interrupts(progress.note)
    counts: dict[str, int] = {"done": 0, "already": len(benchmark.trials) - len(todo), "failed": 0, "skipped": 0}
    refused = ""
    with (
        interrupts.installed(),
        open_pool(settings, interrupts) as pool,
        _tracker(config, run, progress) as tracker,
        progress,
    ):
        tracker.log_stored(run.trials())
        for status in execute(passes, pool, interrupts, max_failures=config.engine.max_failures):
            progress.advance(status)
            if status.state == "refused":
                refused = status.message
                continue
            counts[status.state] += 1
            _track(tracker, run, status)
    left = len(benchmark.trials) - sum(counts.values())
    return Outcome(run, **counts, left=left, interrupted=interrupts.requested and not refused, refused=refused)


def _refuse_other_settings(run: Run, config: RunConfig) -> None:
    if not (run.path / "run.yaml").exists():
        return
    mine, theirs = config.as_dict(), open_run(run.path).config
    if different := different_settings(mine, theirs):
        lines = "; ".join(f"{key}: {theirs.get(key)!r} there, {mine[key]!r} now" for key in different)
        raise StoreError(f"{run.path} holds a run with other settings ({lines}). Choose another folder with --run.")


def _feature_notes(benchmark: Benchmark, todo: Sequence[Trial]) -> list[str]:
    """What is odd about the slides of the cohorts that are trained on now; unusable ones are refused before that."""
    needed = {trial.dataset for trial in todo}
    cohorts = [entry.cohort for entry in benchmark.entries if entry.cohort.name in needed]
    return [note for cohort in cohorts for note in refuse_unusable(cohort)]


def _write_header(benchmark: Benchmark) -> None:
    run = benchmark.run
    plan = {trial.slot: trial.id for trial in benchmark.trials}
    datasets = {entry.cohort.name: _describe(entry, benchmark.known_models) for entry in benchmark.entries}
    run.write_header(benchmark.config.as_dict(), describe_environment(), datasets, plan)
    with writing(run.path):
        for entry in benchmark.entries:
            cohort = entry.cohort
            labels = cohort.slides[["slide_id", "patient_id", *cohort.tasks]]
            _write_if_new(run.split_file(cohort.name), entry.split.to_csv())
            _write_if_new(run.label_file(cohort.name), labels.to_csv(index=False, lineterminator="\n"))
    if benchmark.shard:
        write_shard(run, benchmark.shard, benchmark.whole_plan, benchmark.trials)


def _write_if_new(path: Path, text: str) -> None:
    """Other commands on the same run may be reading it: what is the same stays untouched."""
    content = text.encode()
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)


def _describe(entry: Entry, known_models: Sequence[str]) -> dict[str, Any]:
    """What the report needs to know of a cohort."""
    cohort = entry.cohort
    return {
        "title": cohort.title or cohort.name,
        "models": list(known_models),
        "tasks": list(cohort.tasks),
        "control_tasks": list(cohort.control_tasks),
        "n_slides": len(cohort.slides),
        "n_patients": int(cohort.slides["patient_id"].nunique()),
        "positives": {task: int((cohort.slides[task] == 1).sum()) for task in cohort.tasks},
        "in_features": cohort.in_features,
        "fingerprint": cohort.fingerprint,
        "split_sha256": entry.split.sha256,
        "splits": entry.split.protocol,
        "test_side_differs": entry.split.test_side_differs,
        "scaling": cohort.feature_scaling,
        "model_defaults": dict(cohort.model_defaults),
        "trainer_defaults": dict(cohort.trainer_defaults),
        "notes": [*cohort.notes, *entry.split.notes, *entry.audit.warnings],
    }


def _warn_of_changed_sources(benchmark: Benchmark, progress: Progress) -> None:
    """Say so where finished trials were made by another text of a model's file with the same version."""
    changed: dict[str, int] = {}
    for trial in benchmark.trials:
        stored = benchmark.run.trial(trial.id)
        if stored is not None and stored.info["source_sha256"] != trial.source_sha256:
            changed[trial.model] = changed.get(trial.model, 0) + 1
    for name, count in changed.items():
        progress.note(
            f"warning: {count} finished trials of '{name}' were made by another text of "
            f"{benchmark.models[name].__module__} with the same version number. "
            "If results changed, raise `version` in its @register_model."
        )


def _tracker(config: RunConfig, run: Run, progress: Progress) -> Tracker:
    uri = config.tracking.uri or default_uri(run.path.absolute().parent)
    return Tracker(uri, run, enabled=config.tracking.enabled, warn=progress.note)


def _track(tracker: Tracker, run: Run, status: Status) -> None:
    stored: StoredTrial | None = run.trial(status.job.trial.id)
    if stored is not None:
        tracker.log_trial(stored)
