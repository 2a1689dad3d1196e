"""Merge: run folders of shards, or of the same study on several machines -> one run folder.

A trial's name holds a hash of all that decides its result, so a merge is a union of folders. To keep it safe, it refuses
other settings, other data, other splits and missing shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from milbench.cohorts.content import changed_slides
from milbench.cohorts.record import ContentRecord, read_record
from milbench.engines.shards import ShardRecord, shard_records, write_record
from milbench.errors import StoreError
from milbench.external.scored import adopt_scores
from milbench.runs.config import different_settings
from milbench.store import run_writing
from milbench.store.files import write_atomically
from milbench.store.foreign_folder import refuse_foreign_folder
from milbench.store.question import Question, stale_sentences
from milbench.store.run import Run, holds_run, open_run
from milbench.store.run_folder import FAILURES, TUNING, UNTUNED
from milbench.store.run_writing import adopt, claim, clear_failure, described, sweep, write_failure
from milbench.store.trial import StoredTrial

SAME_OF_A_DATASET = {"fingerprint": "labels or features", "split_sha256": "split table", "scaling": "feature scaling"}
SAME_OF_A_MACHINE = ("milbench", "python", "packages")
"""If these differ, results may differ in their last digits: a merge says so and goes on."""


@dataclass(frozen=True)
class Merged:
    """Result of a merge.

    Attributes
    ----------
    run : the run folder that holds all trials.
    n_trials : intact trials in it.
    damaged, conflicts : ids of trials left out; conflicts have the same name and other bytes than the one kept.
    left : planned trials that no folder holds.
    notes : sentences for the user, such as other versions of a package.
    """

    run: Run
    n_trials: int
    damaged: tuple[str, ...]
    conflicts: tuple[str, ...]
    left: int
    notes: tuple[str, ...]


def merge_with_searches(out: Path, paths: Sequence[Path], *, allow_missing_shards: bool = False) -> list[Merged]:
    """Union of the runs at `paths`, and of the searches within them: the search first, then the run, where there are any.

    Raises
    ------
    StoreError : as `merge`.
    """
    merged = []
    for part in (TUNING, UNTUNED):
        if inner := [path / part for path in paths if holds_run(path / part)]:
            merged.append(merge(out / part, inner, allow_missing_shards=allow_missing_shards))
    if not merged or any(holds_run(path) for path in (*paths, out)):
        merged.append(merge(out, paths, allow_missing_shards=allow_missing_shards))
    return merged


def merge(out: Path, paths: Sequence[Path], *, allow_missing_shards: bool = False) -> Merged:
    """Union of the runs at `paths` in `out`. `out` may hold some trials already; they are not overwritten.

    Raises
    ------
    StoreError : a folder is no run, or has other settings, data or splits; a shard is missing. Nothing is written then.
    """
    runs = [open_run(path) for path in paths]
    refuse_foreign_folder(out)
    whole = [open_run(out)] if holds_run(out) else []
    for run in whole:
        _refuse_a_shard_as_the_whole(run)
    every = [*whole, *runs]
    for run in every[1:]:
        _refuse_another_study(every[0], run)
    records = _one_plan([(run, record) for run in every for record in shard_records(run)])
    missing = _missing(records)
    if missing and not allow_missing_shards:
        raise StoreError(f"{missing} Name its folder too, or merge without it by --allow-missing-shards.")
    merged = Run(out)
    _write_header(merged, every, records)
    sweep(merged)
    damaged, conflicts = _adopt(merged, runs)
    n_trials = len(merged.trials())
    notes = ([missing] if missing else []) + _machines(every) + _left_out(every) + _scores(merged, runs)
    return Merged(merged, n_trials, damaged, conflicts, len(merged.planned()) - n_trials, tuple(notes))


def _refuse_a_shard_as_the_whole(run: Run) -> None:
    if shard := run.config.get("engine", {}).get("shard"):
        raise StoreError(
            f"{run.path} is shard {shard}, but the first folder after `milbench merge` gets the whole run. "
            f"Name a new folder first: milbench merge {run.path.with_name('whole')} {run.path} ..."
        )


def _refuse_another_study(first: Run, other: Run) -> None:
    if different := different_settings(first.config, other.config):
        lines = "; ".join(f"{key}: {each.mine!r} there, {each.theirs!r} here" for key, each in different.items())
        raise StoreError(
            f"{other.path} was run with other settings than {first.path} ({lines}). Merge only runs of one study."
        )
    for name in sorted(first.datasets.keys() & other.datasets.keys()):
        for key, what in SAME_OF_A_DATASET.items():
            if first.datasets[name].get(key) != other.datasets[name].get(key):
                raise StoreError(
                    f"{other.path} has another {what} of '{name}' than {first.path}. "
                    "Their numbers cannot stand in one table. Run one of them again on the other's data."
                )
    _refuse_other_features(first, other)
    theirs = other.planned()
    for slot, trial_id in first.planned().items():
        if theirs.get(slot, trial_id) != trial_id:
            raise StoreError(
                f"{other.path} and {first.path} planned two different trials for {slot} ({theirs[slot][-8:]} and "
                f"{trial_id[-8:]}), so the model or milbench has another version. Run one of them again with the other's version."
            )


def _refuse_other_features(first: Run, other: Run) -> None:
    """Files of other content may have one fingerprint in two folders, each of which has seen one of the contents only."""
    for name in sorted(first.datasets.keys() & other.datasets.keys()):
        here, there = (read_record(run.content_file(name)) for run in (first, other))
        if any(there.first.get(fingerprint, content) != content for fingerprint, content in here.first.items()):
            slides = changed_slides(here.slides, there.slides)
            where = f" for {len(slides)} slide{'s' * (len(slides) != 1)}, such as {slides[0]}" if slides else ""
            raise StoreError(
                f"{other.path} was computed with other features of '{name}' than {first.path}: their files differ"
                f"{where}. "
                "Their numbers cannot stand in one table. Run one of them again on the other's data."
            )


def _one_plan(records: Sequence[tuple[Run, ShardRecord]]) -> list[ShardRecord]:
    """The records, which must be shards of one plan.

    Raises
    ------
    StoreError : two of them differ in their plan or in the number of shards.
    """
    for run, record in records[1:]:
        first_run, first = records[0]
        if record.count != first.count:
            raise StoreError(
                f"{first_run.path} is shard {first.shard} and {run.path} is shard {record.shard}: "
                "all shards of one plan have the same number of parts. Merge the shards of each plan separately."
            )
        if record.plan != first.plan:
            odd = sorted(record.plan.items() ^ first.plan.items())[0][0]
            raise StoreError(
                f"{run.path} is a shard of another plan than {first_run.path}: they differ in {odd}, among others. "
                "Run all shards again with the same models, folds and seeds."
            )
    return [record for _, record in records]


def _missing(records: Sequence[ShardRecord]) -> str:
    """A sentence that names the missing shards; "" if none is missing, or if there are no shards."""
    if not records:
        return ""
    count = records[0].count
    absent = sorted(set(range(1, count + 1)) - {record.number for record in records})
    n_trials = len(records[0].plan) - len({slot for record in records for slot in record.mine})
    names = ", ".join(f"{number}/{count}" for number in absent)
    return f"shard {names} is missing, with {n_trials} of {len(records[0].plan)} trials." if absent else ""


def _write_header(merged: Run, every: Sequence[Run], records: Sequence[ShardRecord]) -> None:
    with described(merged):
        _write_locked(merged, every, records)


def _write_locked(merged: Run, every: Sequence[Run], records: Sequence[ShardRecord]) -> None:
    plan = {slot: trial_id for run in every for slot, trial_id in run.planned().items()}
    plan |= records[0].plan if records else {}
    datasets = {name: facts for run in reversed(every) for name, facts in run.datasets.items()}
    splits = {name: _split_bytes(every, name) for name in datasets}
    labels = {name: content for name in datasets if (content := _label_bytes(every, name))}
    environment = next((run.environment for run in every if run.environment), {})
    run_writing.write_header(merged, _config(every, merged.path), environment, datasets, plan, _questions(every))
    for record in records:
        write_record(merged, record)
    for name, content in splits.items():
        write_atomically(merged.split_file(name), content)
    for name, content in labels.items():
        write_atomically(merged.label_file(name), content)
    _write_records(merged, every, datasets)


def _write_records(merged: Run, every: Sequence[Run], datasets: Iterable[str]) -> None:
    """What the runs know of each dataset's feature files; folders of an older version know nothing."""
    for name in datasets:
        records = [read_record(run.content_file(name)) for run in reversed(every) if run.content_file(name).exists()]
        if records:
            slides = {slide: found for record in records for slide, found in record.slides.items()}
            first = {fingerprint: content for record in records for fingerprint, content in record.first.items()}
            merged.content_file(name).parent.mkdir(exist_ok=True)
            write_atomically(merged.content_file(name), ContentRecord(slides, first).to_json())


def _questions(every: Sequence[Run]) -> dict[str, Question]:
    """What the merged folder asks: the runs ask the same of each dataset, and each may know other models."""
    questions: dict[str, Question] = {}
    for name, asked in ((name, asked) for run in every for name, asked in run.asked().items()):
        known = questions.get(name, asked.now)
        questions[name] = replace(known, models={**asked.now.models, **known.models})
    return questions


def _config(every: Sequence[Run], out: Path) -> dict[str, Any]:
    """The first run's configuration, with the models, datasets, folds and seeds of all runs, and without a shard."""
    lists = ("models", "datasets", "cohorts", "seeds", "plugins")
    union = {key: list(dict.fromkeys(x for run in every for x in run.config.get(key, []))) for key in lists}
    folds = [run.config.get("folds", []) for run in every]  # an empty list = all
    union["folds"] = sorted({fold for some in folds for fold in some}) if all(folds) else []
    engine = {**every[0].config.get("engine", {}), "shard": ""}
    return {**every[0].config, **union, "engine": engine, "run": str(out)}


def _split_bytes(every: Sequence[Run], dataset: str) -> bytes:
    """The split table, from the first run that has it whole; all have the same, since their hashes are equal."""
    content = _first_whole([(run.split_file(dataset), run.roles) for run in every], dataset)
    if content is None:
        raise StoreError(f"no folder holds the split table of '{dataset}' (splits/{dataset}.csv).")
    return content


def _label_bytes(every: Sequence[Run], dataset: str) -> bytes | None:
    """The labels, from the first run that has them whole; equal fingerprints mean equal labels.

    None if no folder has any, as those of an older version.
    """
    return _first_whole([(run.label_file(dataset), run.labels) for run in every], dataset)


def _first_whole(places: Sequence[tuple[Path, Callable[[str], object]]], dataset: str) -> bytes | None:
    """Content of the first file that its reader takes; None if there is no file.

    Raises
    ------
    StoreError : there are files, and all are damaged.
    """
    damage: StoreError | None = None
    for path, read in places:
        if path.exists():
            try:
                read(dataset)
                return path.read_bytes()
            except StoreError as error:
                damage = damage or error
    if damage is not None:
        raise damage
    return None


def _adopt(merged: Run, runs: Sequence[Run]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ids of trials that no folder holds intact, and of those that contradict each other; intact trials are copied."""
    damaged: set[str] = set()
    conflicts: set[str] = set()
    for run, trial_id in _found(runs):
        theirs, ours = run.trial(trial_id), merged.trial(trial_id)
        if theirs is None:
            damaged.add(trial_id)
        elif ours is None:
            _adopt_one(merged, theirs)
        elif not _agree(ours.info["payload_sha256"], theirs.info["payload_sha256"]):
            conflicts.add(trial_id)
    for run in runs:
        for failure in run.failures():
            if merged.trial(failure["id"]) is None:
                write_failure(merged, failure_key(run, failure), failure)
    return tuple(sorted(i for i in damaged if merged.trial(i) is None)), tuple(sorted(conflicts))


def _adopt_one(merged: Run, trial: StoredTrial) -> None:
    """Copy the trial, unless a process is computing it in the merged folder right now."""
    with claim(merged, trial.info["key"]) as mine:
        if mine:
            adopt(merged, trial)
            clear_failure(merged, trial.info["key"])


def _agree(ours: dict[str, str], theirs: dict[str, str]) -> bool:
    """Whether the files that both have are the same; weights may be kept in only one of the folders."""
    return all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())


def _found(runs: Sequence[Run]) -> Iterator[tuple[Run, str]]:
    """Every planned trial with a folder, damaged or not, except those that answer another question."""
    for run in runs:
        stale = {trial.id for trial in run.stale()}
        for trial_id in sorted(set(run.planned().values()) - stale):
            if run.has_folder(trial_id):
                yield run, trial_id


def failure_key(run: Run, failure: dict[str, Any]) -> str:
    """Key of the trial whose failure it is; its id holds the first eight digits."""
    digits = str(failure["id"]).rpartition("-")[2]
    return next(path.stem for path in (run.path / FAILURES).glob(f"{digits}*.json"))


def _left_out(every: Sequence[Run]) -> list[str]:
    """Trials that folders hold of other questions: they stay where they are."""
    return [f"{run.path} holds {sentence}: not merged." for run in every for sentence in stale_sentences(run.stale())]


def _scores(merged: Run, runs: Sequence[Run]) -> list[str]:
    """A sentence on scores of external cohorts that came along; none if there are none."""
    count = sum(adopt_scores(merged, run) for run in runs)
    return [f"{count} scores of external cohorts were taken along."] if count else []


def _machines(every: Sequence[Run]) -> list[str]:
    """Sentences on folders that were computed with other versions, so that last digits may differ."""
    first, *others = [run for run in every if run.environment] or every[:1]
    notes = []
    for run in others:
        different = [key for key in SAME_OF_A_MACHINE if run.environment.get(key) != first.environment.get(key)]
        if different:
            notes.append(f"{run.path} was computed with other {' and '.join(different)} than {first.path}.")
    return notes
