"""Header: what a run folder says before any trial is done: settings, environment, cohorts, plan, splits and labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from milbench.engines.shards import write_shard
from milbench.errors import StoreError
from milbench.runs.config import different_settings
from milbench.runs.environment import describe_environment
from milbench.runs.preparation import Benchmark, Entry
from milbench.store.files import write_atomically, writing
from milbench.store.run import open_run


def refuse_other_settings(benchmark: Benchmark) -> None:
    """Keep trials with different settings out of one run folder.

    Raises
    ------
    StoreError : the folder holds a run with other settings.
    """
    folder = benchmark.run.path
    if not (folder / "run.yaml").exists():
        return
    mine, theirs = benchmark.config.as_dict(), open_run(folder).config
    if different := different_settings(mine, theirs):
        lines = "; ".join(f"{key}: {theirs.get(key)!r} there, {mine[key]!r} now" for key in different)
        raise StoreError(f"{folder} holds a run with other settings ({lines}). Choose another folder with --run.")


def write_header(benchmark: Benchmark) -> None:
    """Write the header into the run folder.

    Raises
    ------
    StoreError : the folder cannot be written.
    """
    run = benchmark.run
    plan = {trial.slot: trial.id for trial in benchmark.trials}
    datasets = {entry.cohort.name: _describe(entry, benchmark.known_models) for entry in benchmark.entries}
    run.write_header(benchmark.config.as_dict(), describe_environment(), datasets, plan)
    with writing(run.path):
        for entry in benchmark.entries:
            _write_split_and_labels(benchmark, entry)
    if benchmark.shard:
        write_shard(run, benchmark.shard, benchmark.whole_plan, benchmark.trials)


def _write_split_and_labels(benchmark: Benchmark, entry: Entry) -> None:
    run, cohort = benchmark.run, entry.cohort
    labels = cohort.slides[["slide_id", "patient_id", *cohort.tasks]]
    _write_if_new(run.split_file(cohort.name), entry.split.to_csv())
    _write_if_new(run.label_file(cohort.name), labels.to_csv(index=False, lineterminator="\n"))


def _write_if_new(path: Path, text: str) -> None:
    """Leave a file with the same text as it is, since other commands may be reading it."""
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
        "notes": entry.notes,
    }
