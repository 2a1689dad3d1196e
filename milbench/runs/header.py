"""Header: what a run folder says before any trial is done: settings, environment, cohorts, plan, splits and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from milbench.cohorts.bag_names import SLIDE
from milbench.cohorts.cohort import Cohort
from milbench.cohorts.tuned import TunedSettings
from milbench.engines.shards import write_shard
from milbench.errors import StoreError
from milbench.models import REGISTERED, Sharing
from milbench.runs.changes import labels_csv, questions_of
from milbench.runs.config import different_settings
from milbench.runs.environment import describe_environment
from milbench.runs.preparation import Benchmark, Entry, follows_tuned, is_own_split
from milbench.store import run_writing
from milbench.store.files import write_atomically
from milbench.store.run import check_header, holds_run, open_run
from milbench.store.run_writing import described


def refuse_other_settings(benchmark: Benchmark) -> None:
    """Keep trials with different settings out of one run folder.

    Raises
    ------
    StoreError : the folder holds a run with other settings, or the search of a tuned run and this is no search.
    """
    folder = benchmark.run.path
    if not holds_run(folder):
        check_header(benchmark.run)  # files that an earlier command left without its run.yaml
        return
    if benchmark.request.search is None and open_run(folder).is_search:
        raise StoreError(f"{folder} holds the search of a tuned run. Name the run itself: --run {folder.parent}")
    mine, theirs = benchmark.config.as_dict(), open_run(folder).config
    different = {
        key: values
        for key, values in different_settings(mine, theirs).items()
        if key != "splits" or not _keeps_a_split(mine, theirs, folder)
    }
    if different:
        lines = "; ".join(f"{key}: {each.theirs!r} there, {each.mine!r} now" for key, each in different.items())
        raise StoreError(f"{folder} holds a run with other settings ({lines}). Choose another folder with --run.")


def _keeps_a_split(mine: Mapping[str, Any], theirs: Mapping[str, Any], folder: Path) -> bool:
    """Whether either command names the run's own split tables: the question tells whether the split is another."""
    return any(config["splits"] and is_own_split(config["splits"], folder) for config in (mine, theirs))


def write_header(benchmark: Benchmark) -> None:
    """Write the header into the run folder. A split table that gives way to another is kept under its hash.

    Raises
    ------
    StoreError : the folder cannot be written.
    """
    run = benchmark.run
    plan = {trial.slot: trial.id for trial in benchmark.trials}
    follows = follows_tuned(benchmark)
    datasets = {
        entry.cohort.name: _describe(entry, benchmark.known_models, follows_tuned=follows)
        for entry in benchmark.entries
    }
    questions = questions_of(benchmark)
    environment = describe_environment()
    with described(run):
        _keep_former_splits(benchmark)
        run_writing.write_header(run, benchmark.config.as_dict(), environment, datasets, plan, questions)
        for entry in benchmark.entries:
            _write_what_it_consists_of(benchmark, entry)
        if benchmark.shard:
            write_shard(run, benchmark.shard, benchmark.whole_plan, benchmark.trials)


def _keep_former_splits(benchmark: Benchmark) -> None:
    run, now = benchmark.run, {entry.cohort.name: entry.split.sha256 for entry in benchmark.entries}
    for name, asked in run.asked().items():
        kept = run.former_split_file(name, asked.now.split_sha256)
        is_replaced = now.get(name, asked.now.split_sha256) != asked.now.split_sha256
        if is_replaced and run.split_file(name).exists() and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, run.split_file(name).read_bytes())


def _write_what_it_consists_of(benchmark: Benchmark, entry: Entry) -> None:
    run, cohort = benchmark.run, entry.cohort
    _write_if_new(run.split_file(cohort.name), entry.split.to_csv())
    _write_if_new(run.label_file(cohort.name), labels_csv(entry))
    if entry.record is not None:
        run.content_file(cohort.name).parent.mkdir(exist_ok=True)
        _write_if_new(run.content_file(cohort.name), entry.record.to_json().decode())


def _write_if_new(path: Path, text: str) -> None:
    """Leave a file with the same text as it is, since other commands may be reading it."""
    content = text.encode()
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)


def _told(tuned: TunedSettings) -> dict[str, Any]:
    return {key: getattr(tuned, key) for key in ("configurations", "command", "made", "models")}


def _sharing(models: Sequence[str]) -> dict[str, Any]:
    """Places on the ladder of sharing that models declare; nothing if none does.

    `after` lists the models before, the nearest first: the report compares with the first of them that ran.
    """
    declared = {name: REGISTERED[name].info.sharing for name in models if name in REGISTERED}
    places = {name: place for name, place in declared.items() if place is not None}
    told = {
        name: {"what": place.what, "step": place.step, "after": _before(name, places)} for name, place in places.items()
    }
    return {"sharing": told} if told else {}


def _before(name: str, places: Mapping[str, Sharing]) -> list[str]:
    """Models that come before the one called `name`, the nearest first."""
    found: list[str] = []
    while (name := places[name].after) in places and name not in found:
        found.append(name)
    return found


def _joined(cohort: Cohort) -> dict[str, Any]:
    """That bags are patients, and the slides of each in order; nothing if a bag is a slide."""
    if cohort.bag == SLIDE:
        return {}
    return {"bag": cohort.bag, "slides_of": {patient: list(slides) for patient, slides in cohort.members.items()}}


def _describe(entry: Entry, known_models: Sequence[str], *, follows_tuned: bool) -> dict[str, Any]:
    """What the report needs to know of a cohort.

    Parameters
    ----------
    follows_tuned : whether settings that an earlier search chose for the cohort are those of the run.
    """
    cohort = entry.cohort
    endpoints = {task: cohort.endpoints[task].as_dict() for task in cohort.tasks if task in cohort.endpoints}
    return {
        "title": cohort.title or cohort.name,
        **({"licence": cohort.licence} if cohort.licence else {}),
        "models": list(known_models),
        **_sharing(known_models),
        "tasks": list(cohort.tasks),
        "control_tasks": list(cohort.control_tasks),
        **_joined(cohort),
        "n_slides": len(cohort.by_slide.slides),
        "n_patients": int(cohort.slides["patient_id"].nunique()),
        "positives": {task: int((cohort.slides[task] == 1).sum()) for task in cohort.tasks if task not in endpoints},
        **({"endpoints": endpoints} if endpoints else {}),
        "in_features": cohort.in_features,
        **({"features": entry.features} if entry.features else {}),
        "fingerprint": cohort.fingerprint,
        "split_sha256": entry.split.sha256,
        "splits": entry.split.protocol,
        "test_side_differs": entry.split.test_side_differs,
        "scaling": cohort.feature_scaling,
        "model_defaults": dict(cohort.model_defaults),
        "trainer_defaults": dict(cohort.trainer_defaults),
        **({"tuned": _told(cohort.tuned)} if follows_tuned and cohort.tuned else {}),
        "notes": entry.notes,
    }
