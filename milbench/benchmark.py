"""Benchmark: configuration -> cohorts, splits, plan -> engine -> tracking. One function a subcommand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from milbench.cohort import Cohort
from milbench.config import SAME_WITHIN_A_RUN, RunConfig, different_settings
from milbench.datasets import all_datasets
from milbench.engine import Interrupts, execute
from milbench.engines.pools import open_pool
from milbench.engines.settings import PoolSettings
from milbench.engines.shards import Shard, dealt, parse_shard, write_shard
from milbench.environment import describe_environment
from milbench.errors import StoreError, UsageError, unknown_name
from milbench.models import MILModel
from milbench.plan import PlanRequest, Trial, canonical_json, make_plan, together
from milbench.precision import PRECISIONS, check_precision
from milbench.progress import Progress
from milbench.registry import load_models, select
from milbench.residency import Residency, mean_patches
from milbench.sizes import parse_bytes
from milbench.source import CohortSource
from milbench.splits import N_FOLDS, Audit, Split, audit, make_split
from milbench.stacking import stacking_pays
from milbench.store import Run, StoredTrial, open_run, write_atomically, writing
from milbench.tracking import Tracker, default_uri
from milbench.worker import Job, Pass, Status, residency_of

RUNS = Path("runs")


@dataclass(frozen=True)
class Entry:
    """One cohort of the benchmark with its split."""

    source: CohortSource
    cohort: Cohort
    split: Split
    audit: Audit


@dataclass(frozen=True)
class Benchmark:
    """All that is decided before anything trains.

    `trials` are those of `shard` where there is one, out of `whole_plan`.
    """

    config: RunConfig
    models: Mapping[str, type[MILModel]]
    known_models: Sequence[str]
    entries: Sequence[Entry]
    trials: Sequence[Trial]
    run: Run
    shard: Shard | None = None
    whole_plan: Sequence[Trial] = ()


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    run : the run on disk.
    done, already, failed : numbers of trials; `already` were finished before.
    skipped : trials of models that were given up (`engine.max_failures`).
    left : trials that an interrupt left undone.
    refused : message of the bad input that stopped the run; empty if none did.
    """

    run: Run
    done: int
    already: int
    failed: int
    skipped: int
    left: int
    refused: str


def prepare(config: RunConfig) -> Benchmark:
    """Models, cohorts, audited splits and trials of `config`; nothing is written.

    Raises
    ------
    MilbenchError : unknown names, unusable data, a split that leaks.
    """
    if config.precision not in PRECISIONS:
        raise unknown_name("precision", config.precision, PRECISIONS)
    _memory_bytes(config)  # a size that is none is refused before anything is read
    plugins = tuple(Path(plugin) for plugin in config.plugins)
    known = load_models(plugins)
    models = {name: known[name] for name in select("model", config.models, known)}
    entries = _of_tasks([_entry(source, config) for source in _sources(config)], config.tasks)
    _refuse_two_of_one_name(entries)
    request = PlanRequest(
        config.protocol, config.folds or None, config.seeds, config.precision, config.trainer, config.model
    )
    plan = make_plan(models, [(entry.cohort, entry.split) for entry in entries], request)
    shard = parse_shard(config.engine.shard)
    trials = [trial for pass_ in dealt(together(plan), shard) for trial in pass_] if shard else plan
    run = Run(run_folder(config, [entry.cohort.name for entry in entries]))
    return Benchmark(config, models, list(known), entries, trials, run, shard, plan)


def _sources(config: RunConfig) -> list[CohortSource]:
    root = Path(config.data_root) if config.data_root else None
    named = [
        CohortSource(name=name, data_root=root, allow_missing=config.allow_missing)
        for name in (select("dataset", config.datasets, all_datasets()) if config.datasets else [])
    ]
    own = [CohortSource(path=Path(path).absolute(), allow_missing=config.allow_missing) for path in config.cohorts]
    return named + own


def _entry(source: CohortSource, config: RunConfig) -> Entry:
    cohort = source.load()
    protocol = config.splits or cohort.splits
    split = make_split(cohort.patients_from, cohort.tasks, protocol, n_folds=max(N_FOLDS, cohort.n_folds))
    return Entry(source, cohort, split, audit(split, cohort.slides, cohort.tasks))


def _of_tasks(entries: Sequence[Entry], asked: Sequence[str]) -> list[Entry]:
    """The entries with the tasks that were asked for; splits and fingerprints stay those of all tasks.

    So a single-task trial is the same trial, and a test patient the same patient, whatever is trained beside it.
    """
    if not asked:
        return list(entries)
    chosen = select("task", asked, dict.fromkeys(task for entry in entries for task in entry.cohort.tasks))
    return [_restricted(entry, chosen) for entry in entries]


def _restricted(entry: Entry, chosen: Sequence[str]) -> Entry:
    cohort = entry.cohort
    tasks = tuple(task for task in cohort.tasks if task in chosen)
    if not tasks:
        raise UsageError(
            f"cohort '{cohort.name}' has none of the tasks {', '.join(chosen)}. Its own: {', '.join(cohort.tasks)}."
        )
    controls = tuple(task for task in cohort.control_tasks if task in tasks)
    restricted = replace(cohort, tasks=tasks, control_tasks=controls)
    return Entry(entry.source, restricted, entry.split, audit(entry.split, cohort.slides, tasks))


def _refuse_two_of_one_name(entries: Sequence[Entry]) -> None:
    names = [entry.cohort.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two cohorts are called '{name}'. Give one another `name:` in its cohort.yaml.")


def run_folder(config: RunConfig, cohorts: Sequence[str]) -> Path:
    """The run's folder: as asked for, or named after what is compared.

    The same command always finds its folder again. Settings that change every number go into the
    name as a hash, so that a table never mixes them; models, folds and seeds may be added later.
    """
    if config.run:
        return Path(config.run)
    defaults = RunConfig()
    changed = {key: getattr(config, key) for key in SAME_WITHIN_A_RUN if getattr(config, key) != getattr(defaults, key)}
    name = "+".join(cohorts) if len(cohorts) <= 3 else f"{cohorts[0]}+{len(cohorts) - 1}-more"
    if changed or len(cohorts) > 3:
        name += "-" + hashlib.sha256(canonical_json([changed, list(cohorts)]).encode()).hexdigest()[:6]
    shard = parse_shard(config.engine.shard)
    return RUNS / (f"{name}-shard-{shard.file_name}" if shard else name)


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
    passes = _passes(benchmark, todo, settings)
    for sentence in filter(None, [slow, *_residencies(benchmark, settings)] if todo else ()):
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
    return Outcome(run, **counts, left=left, refused=refused)


def _refuse_other_settings(run: Run, config: RunConfig) -> None:
    if not (run.path / "run.yaml").exists():
        return
    mine, theirs = config.as_dict(), open_run(run.path).config
    if different := different_settings(mine, theirs):
        lines = "; ".join(f"{key}: {theirs.get(key)!r} there, {mine[key]!r} now" for key in different)
        raise StoreError(f"{run.path} holds a run with other settings ({lines}). Choose another folder with --run.")


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


def pool_settings(benchmark: Benchmark) -> PoolSettings:
    """Engine, workers and devices of the run, settled as far as this machine can.

    Raises
    ------
    UsageError : a device, GPU or package that is not here; settings that do not go together.
    """
    engine = benchmark.config.engine
    return PoolSettings(
        kind=engine.kind,
        workers=engine.workers,
        threads=engine.threads,
        device=engine.device,
        gpus=engine.gpus,
        per_gpu=engine.per_gpu,
        address=engine.address,
        slurm=engine.slurm,
        trial_seconds=engine.trial_timeout,
        max_failures=engine.max_failures,
        run=benchmark.run.path.absolute(),
    ).settled()


def _passes(benchmark: Benchmark, todo: Sequence[Trial], settings: PoolSettings) -> list[Pass]:
    """The trials that are left, as passes over the data; how they are grouped into passes changes no result."""
    missing = {trial.key for trial in todo}
    passes: list[Pass] = []
    for name in dict.fromkeys(trial.dataset for trial in todo):
        entry = next(entry for entry in benchmark.entries if entry.cohort.name == name)
        trials = [trial for trial in benchmark.trials if trial.dataset == name]
        groups = [group for each in together(trials) for group in _groups(benchmark, entry, each, missing, settings)]
        passes += _shared_reading(groups, entry, settings)
    return passes


def _groups(
    benchmark: Benchmark, entry: Entry, trials: Sequence[Trial], missing: set[str], settings: PoolSettings
) -> list[Pass]:
    """Jobs for what is missing of trials that differ in their task only: one stack, or each by itself."""
    left = [trial for trial in trials if trial.key in missing]
    if not left:
        return []
    config, stacked = benchmark.config, is_stacked(benchmark, entry, trials, settings)
    retried = all(benchmark.run.has_failed(trial.key) for trial in left)  # failures have no digits to agree with
    others = tuple(trial for trial in trials if trial.key not in missing) if stacked and not retried else ()
    jobs = tuple(
        Job(
            run=settings.run,
            trial=trial,
            source=entry.source,
            plugins=tuple(Path(plugin).absolute() for plugin in config.plugins),
            threads=config.engine.threads,
            device=settings.device,
            keep_weights=config.keep_weights,
            others=others,
            stacked=stacked,
            memory_bytes=_memory_bytes(config),
            checkpoint_seconds=config.engine.checkpoint_seconds,
        )
        for trial in left
    )
    return [jobs] if stacked else [(job,) for job in jobs]


def is_stacked(benchmark: Benchmark, entry: Entry, trials: Sequence[Trial], settings: PoolSettings) -> bool:
    """Whether trials that differ in their task only are trained as one stack: as `--stack` says, else if it pays."""
    asked, first = benchmark.config.engine.stack, trials[0]
    if asked != "auto":
        return asked == "on" and len(trials) > 1
    return stacking_pays(
        entry.cohort.in_features,
        first.hyperparameters,
        n_members=len(trials),
        patches_of_a_step=mean_patches(entry.cohort) * first.recipe.bags_per_step,
        on_gpu=settings.on_gpu,
    )


def _shared_reading(groups: Sequence[Pass], entry: Entry, settings: PoolSettings) -> list[Pass]:
    """Groups joined into passes that read each bag once an epoch for all: where bags come from disk, or to a GPU.

    As few passes as keep every worker busy.
    """
    by_seed: dict[tuple[int, str], list[Pass]] = {}
    for group in groups:
        first = group[0].trial
        by_seed.setdefault((first.seed, first.model if settings.on_gpu else ""), []).append(group)
    if not settings.on_gpu and (settings.is_elsewhere or _is_resident(entry, groups, settings)):
        return list(groups)
    hands = -(-settings.width // max(len(by_seed), 1))  # so that no worker is left without a pass
    dealt_out = [each[hand::hands] for each in by_seed.values() for hand in range(hands)]
    return [tuple(job for group in each for job in group) for each in dealt_out if each]


def _residencies(benchmark: Benchmark, settings: PoolSettings) -> list[str]:
    """Where each cohort's features will be, and why; other machines decide for themselves."""
    if settings.is_elsewhere:
        return []
    memory = _memory_bytes(benchmark.config)
    return [f"{entry.cohort.name}: {_residency(entry, settings, memory).reason}" for entry in benchmark.entries]


def _residency(entry: Entry, settings: PoolSettings, memory_bytes: int) -> Residency:
    return residency_of(
        entry.cohort, settings.device, memory_bytes, workers=settings.workers, gpu_workers=settings.gpu_workers
    )[0]


def _memory_bytes(config: RunConfig) -> int:
    return parse_bytes(config.engine.memory) if config.engine.memory else 0


def _is_resident(entry: Entry, groups: Sequence[Pass], settings: PoolSettings) -> bool:
    return _residency(entry, settings, groups[0][0].memory_bytes).whole_cohort_fits


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
