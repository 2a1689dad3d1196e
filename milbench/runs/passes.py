"""Passes: which trials train together, by how many workers, and where their features stay."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from milbench.engines.settings import PoolSettings
from milbench.runs.config import EngineConfig
from milbench.runs.preparation import Benchmark, Entry, memory_bytes
from milbench.serving.cohort_features import residency_of
from milbench.serving.residency import Residency, has_equal_bags, mean_patches
from milbench.training.stacking import fold_stacking_pays, stacking_pays
from milbench.trials.job import DataPass, Job, JobGroup
from milbench.trials.plan import Trial, folds_together, together


def pool_settings(benchmark: Benchmark) -> PoolSettings:
    """Engine, workers and devices of the run, decided as far as this machine can decide them.

    Raises
    ------
    UsageError : a device, GPU or package is missing, or two settings contradict each other.
    """
    return settings_of(benchmark.config.engine, benchmark.run.path)


def settings_of(engine: EngineConfig, run: Path) -> PoolSettings:
    """The same of an engine and a run folder; raises as `pool_settings`."""
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
        run=run.absolute(),
    ).settled()


def passes_of(benchmark: Benchmark, todo: Sequence[Trial], settings: PoolSettings) -> list[DataPass]:
    """The trials that are left, as passes over the data; how they are grouped into passes changes no result."""
    missing = {trial.key for trial in todo}
    passes: list[DataPass] = []
    for name in dict.fromkeys(trial.dataset for trial in todo):
        entry = next(entry for entry in benchmark.entries if entry.cohort.name == name)
        trials = [trial for trial in benchmark.trials if trial.dataset == name]
        stacks = all_stacks(benchmark, entry, trials, settings)
        groups = [_group(benchmark, entry, stack, missing, settings) for stack in stacks]
        passes += _shared_reading([group for group in groups if group], entry, settings)
    return passes


def _group(
    benchmark: Benchmark, entry: Entry, stack: Sequence[Trial], missing: set[str], settings: PoolSettings
) -> JobGroup | None:
    """Jobs for what is missing of one stack, which may be a single trial; None if nothing is."""
    left = [trial for trial in stack if trial.key in missing]
    if not left:
        return None
    config, in_stack = benchmark.config, len(stack) > 1
    retried = all(benchmark.run.has_failed(trial.key) for trial in left)  # failures have no digits to agree with
    others = tuple(trial for trial in stack if trial.key not in missing) if in_stack and not retried else ()
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
            trains_in_stack=in_stack,
            memory_bytes=memory_bytes(config),
            checkpoint_seconds=config.engine.checkpoint_seconds,
            kernels=config.engine.kernels,
            cuda_graphs=config.engine.cuda_graphs,
        )
        for trial in left
    )
    return JobGroup(jobs)


def all_stacks(
    benchmark: Benchmark, entry: Entry, trials: Sequence[Trial], settings: PoolSettings
) -> list[tuple[Trial, ...]]:
    """Trials of one cohort as the stacks in which they are trained, those of several folds included."""
    stacks = [stack for alike in together(trials) for stack in stacks_of(benchmark, entry, alike, settings)]
    alone = [stack[0] for stack in stacks if len(stack) == 1]
    of_folds: dict[str, tuple[Trial, ...]] = {}
    for group in folds_together(alone):
        is_stack = _trains_across_folds(benchmark, entry, group, settings)
        of_folds |= {trial.key: group if is_stack else (trial,) for trial in group}
    joined = [of_folds[stack[0].key] if len(stack) == 1 else stack for stack in stacks]
    return list({stack[0].key: stack for stack in joined}.values())


def stacks_of(
    benchmark: Benchmark, entry: Entry, trials: Sequence[Trial], settings: PoolSettings
) -> list[tuple[Trial, ...]]:
    """Trials that may share a stack, as the stacks in which they are trained; one that trains alone is a stack of 1.

    If a stack of all configurations of a search is too big to pay, it is halved until each has one configuration.
    """
    if _trains_in_stack(benchmark, entry, trials, settings):
        return [tuple(trials)]
    numbers = sorted({trial.search["configuration"] for trial in trials if trial.search})
    if len(numbers) < 2:
        return [(trial,) for trial in trials]
    middle = numbers[len(numbers) // 2]
    lower = [trial for trial in trials if trial.search["configuration"] < middle]
    upper = [trial for trial in trials if trial.search["configuration"] >= middle]
    return [stack for half in (lower, upper) for stack in stacks_of(benchmark, entry, half, settings)]


def _trains_in_stack(benchmark: Benchmark, entry: Entry, trials: Sequence[Trial], settings: PoolSettings) -> bool:
    """Whether trials that may share a stack are trained as one: as `--stack` says, else if it pays."""
    asked, first = benchmark.config.engine.stack, trials[0]
    if asked != "auto":
        return asked == "on" and len(trials) > 1
    return stacking_pays(
        entry.cohort.in_features,
        first.hyperparameters,
        n_members=len(trials),
        n_configurations=len({trial.search.get("configuration") for trial in trials}),
        patches_of_a_step=mean_patches(entry.cohort, first.recipe.bag_patches) * first.recipe.bags_per_step,
        on_gpu=settings.on_gpu,
    )


def _trains_across_folds(benchmark: Benchmark, entry: Entry, trials: Sequence[Trial], settings: PoolSettings) -> bool:
    """Whether trials that differ in their fold are trained as one stack: as `--stack` says, else if it pays."""
    asked, first = benchmark.config.engine.stack, trials[0]
    if asked != "auto" or len(trials) == 1:
        return asked == "on" and len(trials) > 1
    return fold_stacking_pays(
        entry.cohort.in_features,
        first.hyperparameters,
        n_members=len(trials),
        bags_per_step=first.recipe.bags_per_step,
        patches_of_a_step=mean_patches(entry.cohort, first.recipe.bag_patches) * first.recipe.bags_per_step,
        are_equal=has_equal_bags(entry.cohort, first.recipe.bag_patches),
        on_gpu=settings.on_gpu,
    )


def _shared_reading(groups: Sequence[JobGroup], entry: Entry, settings: PoolSettings) -> list[DataPass]:
    """The groups in as few passes as keep every worker busy; each pass reads each bag once per epoch for all its groups.

    If the whole cohort stays in a CPU's memory, or another machine decides where it stays, each group is a pass.
    """
    if not settings.on_gpu and (settings.is_elsewhere or _is_resident(entry, groups, settings)):
        return [DataPass((group,)) for group in groups]
    by_seed: dict[tuple[int, str], list[JobGroup]] = {}
    for group in groups:
        trial = group.first.trial
        by_seed.setdefault((trial.seed, trial.model if settings.on_gpu else ""), []).append(group)
    passes_per_seed = ceil(settings.width / len(by_seed))
    parts = [tuple(alike[part::passes_per_seed]) for alike in by_seed.values() for part in range(passes_per_seed)]
    return [DataPass(part) for part in parts if part]


def residencies(benchmark: Benchmark, settings: PoolSettings) -> list[str]:
    """One sentence per cohort: where its features stay, and why. Empty if other machines decide that."""
    if settings.is_elsewhere:
        return []
    room = memory_bytes(benchmark.config)
    return [f"{entry.cohort.name}: {_residency(entry, settings, room).reason}" for entry in benchmark.entries]


def _residency(entry: Entry, settings: PoolSettings, room: int) -> Residency:
    return residency_of(
        entry.cohort, settings.device, room, workers=settings.workers, gpu_workers=settings.gpu_workers
    )[0]


def _is_resident(entry: Entry, groups: Sequence[JobGroup], settings: PoolSettings) -> bool:
    return _residency(entry, settings, groups[0].first.memory_bytes).whole_cohort_fits
