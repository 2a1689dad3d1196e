"""Soundness: whether a run's files agree with each other: trials, grid, splits, sides, labels.

Nothing here asks whether a number is right. It asks whether the predictions are those of one experiment in which every
patient stood on one side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from milbench.bundles.difference import Difference
from milbench.bundles.run_tables import Tables, read_tables
from milbench.bundles.sides import side_differences
from milbench.labels.finding import some
from milbench.report.searches import is_tuned
from milbench.store.run import Run, holds_run, open_run
from milbench.store.run_folder import PLAN, TRIALS, TUNING, UNTUNED
from milbench.store.slot import Slot
from milbench.store.trial import TRIAL, StoredTrial


def differences(run: Run, prefix: str, missing: Collection[str]) -> Iterator[Difference]:
    """What does not agree in a run and in the runs inside it.

    Parameters
    ----------
    prefix : how the run's folder is called before a file's name, such as "runs/study/".
    missing : places of the plan that are known to be empty.
    """
    tables = {name: read_tables(run, name) for name in run.datasets}
    for each in tables.values():
        yield from (Difference(f"{prefix}{file}", what) for file, what in each.wrong)
    yield from _of_trials(run, prefix, missing)
    trials = run.trials()
    if not run.is_search:
        yield from _of_grid(run.slots(), trials, prefix, missing)
    for name, each in tables.items():
        mine = [trial for trial in trials if trial.info["dataset"] == name]
        yield from _of_splits(mine, each, prefix)
        yield from side_differences(mine, each, prefix)
    if is_tuned(run):
        for inner in filter(lambda name: holds_run(run.path / name), (TUNING, UNTUNED)):
            yield from differences(open_run(run.path / inner).snapshot(), f"{prefix}{inner}/", _unfinished(run, inner))


def _unfinished(run: Run, inner: str) -> set[str]:
    """Places of a run inside another that may be empty: trainings of a search may fail, and are counted by the report."""
    nested = open_run(run.path / inner)
    return {slot.trial_id.rpartition("-")[0] for slot in nested.slots() if not nested.has_record(slot.trial_id)}


def _of_trials(run: Run, prefix: str, missing: Collection[str]) -> Iterator[Difference]:
    """Trials that are damaged, missing, or that nobody planned."""
    planned = set(run.planned().values())
    damaged = run.damaged()
    for trial_id, why in damaged.items():
        yield Difference(f"{prefix}{TRIALS}/{trial_id}", why)
    for trial_id in sorted(planned - damaged.keys()):
        if not run.has_record(trial_id) and trial_id.rpartition("-")[0] not in missing:
            yield Difference(f"{prefix}{TRIALS}/{trial_id}", f"is missing; {PLAN} lists it")
    lying = {
        path.parent.relative_to(run.path / TRIALS).as_posix() for path in (run.path / TRIALS).glob(f"*/*/*/*/{TRIAL}")
    }
    for trial_id in sorted(lying - planned):
        yield Difference(f"{prefix}{TRIALS}/{trial_id}", f"is not in {PLAN}")
    for stale in run.stale():
        if stale.id in planned:
            yield Difference(f"{prefix}{TRIALS}/{stale.id}", f"was trained on {' and '.join(stale.other)}")


def _of_grid(
    slots: list[Slot], trials: list[StoredTrial], prefix: str, missing: Collection[str]
) -> Iterator[Difference]:
    """Cells (task, fold, seed) that a model lacks and another has."""
    cells: dict[str, dict[str, set[tuple[str, int, int]]]] = {}
    for trial in trials:
        info = trial.info
        own = cells.setdefault(info["dataset"], {}).setdefault(info["model"], set())
        own |= {(task, info["fold"], info["seed"]) for task in info["tasks"]}
    empty = {(slot.dataset, slot.model) for slot in slots if slot.trial_id.rpartition("-")[0] in missing}
    for dataset, models in cells.items():
        whole = set().union(*models.values())
        for model, own in models.items():
            lacking = sorted(f"{task} fold {fold} seed {seed}" for task, fold, seed in whole - own)
            if lacking and (dataset, model) not in empty:
                what = (
                    f"{model} on {dataset} lacks {len(lacking)} of {len(whole)} cells that others have: {some(lacking)}"
                )
                yield Difference(f"{prefix}{PLAN}", what)


def _of_splits(trials: list[StoredTrial], tables: Tables, prefix: str) -> Iterator[Difference]:
    """Trials that were made with another split than the table's."""
    others = [trial.id for trial in trials if tables.split_sha256 and trial.info["split_sha256"] != tables.split_sha256]
    if others:
        yield Difference(
            f"{prefix}{tables.split_file}",
            f"is not the split of {len(others)} trial(s), first {others[0]}: their records name another hash",
        )
