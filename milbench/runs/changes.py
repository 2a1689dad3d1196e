"""Changes: what a command asks of a run folder that the folder was not asked before, in words that a user can act on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.cohorts.bag_names import SLIDE
from milbench.cohorts.content import changed_slides
from milbench.cohorts.optional import labels_of
from milbench.cohorts.record import read_record
from milbench.endpoints.endpoint import BINARY, WITH_CLASSES, Endpoint
from milbench.errors import StoreError
from milbench.models import REGISTERED
from milbench.runs.preparation import Benchmark, Entry
from milbench.store.csv_files import exact_csv
from milbench.store.identity import canonical_json
from milbench.store.question import Asked, Question, settings_changed, settings_of
from milbench.store.run import Run
from milbench.trials.fits import Fits
from milbench.trials.plan import make_plan

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 3
"""Changes of one kind that are named; the others are counted."""


def questions_of(benchmark: Benchmark) -> dict[str, Question]:
    """What the benchmark asks of each of its datasets, for all models that the folder knows of."""
    former = benchmark.run.asked()
    return {
        entry.cohort.name: Question(
            fingerprint=entry.cohort.fingerprint,
            split_sha256=entry.split.sha256,
            feature_scaling=entry.cohort.feature_scaling,
            labels_sha256=hashlib.sha256(labels_csv(entry).encode()).hexdigest(),
            models=_settings(benchmark, entry, former.get(entry.cohort.name)),
            optional_labels_sha256=labels_of(entry.cohort.optional, entry.cohort.tasks),
        )
        for entry in benchmark.entries
    }


def labels_csv(entry: Entry) -> str:
    """The cohort's labels as the run folder keeps them."""
    labels = entry.cohort.slides[["slide_id", "patient_id", *entry.cohort.tasks]]
    return exact_csv(labels)


def _settings(benchmark: Benchmark, entry: Entry, former: Asked | None) -> dict[str, Mapping[str, Any]]:
    """Settings of the benchmark's models, and of those that the folder holds from earlier commands.

    None are kept where a search tries many, or chose others for each task.
    """
    if benchmark.request.search is not None or any(place.task for place in benchmark.request.chosen):
        return {}
    others = former.now.models if former else {}
    known = {**benchmark.models, **{name: REGISTERED[name] for name in others if name in REGISTERED}}
    trials = make_plan(known, [Fits(entry.cohort, entry.split)], benchmark.request)
    plain = {trial.model: json.loads(canonical_json(settings_of(trial.identity()))) for trial in trials}
    recipes = {name: settings["recipe"] for name, settings in plain.items()}
    return {name: _followed(settings, recipes) for name, settings in others.items() if name not in plain} | plain


def _followed(settings: Mapping[str, Any], recipes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a model whose plug-in is not at hand: the study's recipe is one for all models."""
    name = settings.get("recipe", {}).get("name")
    same = [recipe for recipe in recipes.values() if recipe["name"] == name == "m4"]
    return {**settings, "recipe": {**same[0], "model": settings["recipe"].get("model", {})}} if same else settings


def changes_of(benchmark: Benchmark, *, will_run: bool) -> list[str]:
    """A sentence for each thing that has changed since the folder was used last, and how many trials that makes stale.

    Parameters
    ----------
    will_run : whether the folder's header is about to be written, which puts former split tables aside.
    """
    run, former = benchmark.run, benchmark.run.asked()
    questions = questions_of(benchmark)
    sentences = [
        f"{entry.cohort.name}: {sentence}"
        for entry in benchmark.entries
        if entry.cohort.name in former
        for sentence in _changes(
            benchmark, entry, former[entry.cohort.name].now, questions[entry.cohort.name], will_run=will_run
        )
    ]
    then = {name: former[name].then(question) for name, question in questions.items() if name in former}
    answered = [trial for trial in run.trials() if trial.info["dataset"] in then]
    stale = [other for trial in answered if (other := then[trial.info["dataset"]].differences(trial.info))]
    if stale:
        sentences.append(
            f"{len(stale)} finished trials answer the former question. They stay in {run.path}, and no table shows them. "
            "To delete them, add --prune."
        )
    return sentences


def _changes(benchmark: Benchmark, entry: Entry, before: Question, now: Question, *, will_run: bool) -> Iterator[str]:
    run, name = benchmark.run, entry.cohort.name
    labels_changed = False
    if other_bags := _bag_change(run, entry):
        yield other_bags  # the rows of labels are others, so there is nothing to compare
    elif before.fingerprint != now.fingerprint:
        kinds, former_labels = _kind_changes(run, entry), _labels(run, name)
        lines = [*kinds.values(), *(_label_changes(former_labels, entry, kinds) if former_labels is not None else [])]
        labels_changed, features = bool(lines), _feature_changes(run, entry)
        yield from [*lines, *features] or ["labels or features changed"]
        if lines and not features and not kinds and before.labels_sha256 == now.labels_sha256:
            yield "features changed"
    if before.split_sha256 != now.split_sha256:
        kept = run.former_split_file(name, before.split_sha256) if will_run else run.split_file(name)
        yield _split_change(benchmark, entry, kept.parent, because_of_labels=labels_changed)
    if others := [
        task
        for task, sha256 in now.optional_labels_sha256.items()
        if before.optional_labels_sha256.get(task, sha256) != sha256
    ]:
        yield f"labels of {_some(others)} changed, which are part of milbench"
    if before.feature_scaling != now.feature_scaling:
        yield f"feature_scaling {before.feature_scaling} -> {now.feature_scaling}"
    yield from _settings_changes(before, now)


def _bag_change(run: Run, entry: Entry) -> str:
    """ "bag: slide -> patient"; empty if bags are what they were."""
    before = run.datasets.get(entry.cohort.name, {}).get("bag", SLIDE)
    return "" if before == entry.cohort.bag else f"bag: {before} -> {entry.cohort.bag}"


def _labels(run: Run, name: str) -> pd.DataFrame | None:
    """The labels that the folder holds; None if it holds none, or others than it says, as after a kill."""
    try:
        return run.labels(name)
    except StoreError:
        return None


def _settings_changes(before: Question, now: Question) -> Iterator[str]:
    """Settings that changed, each with the models that it concerns."""
    models: dict[str, list[str]] = {}
    for model, settings in before.models.items():
        for change in settings_changed(settings, now.models.get(model, {})):
            models.setdefault(change, []).append(model)
    for change, names in models.items():
        yield change if len(names) == len(before.models) else f"{change} ({', '.join(names)})"


def _kind_changes(run: Run, entry: Entry) -> dict[str, str]:
    """ "grade is ordinal (G1, G2, G3), was multiclass (G1, G2, G3)", by task."""
    facts = run.datasets.get(entry.cohort.name, {})
    former = {task: Endpoint.from_dict(values) for task, values in facts.get("endpoints", {}).items()}
    pairs = {task: (former.get(task, BINARY), entry.cohort.endpoint(task)) for task in entry.cohort.tasks}
    return {
        task: f"{task} is {_asked(now)}, was {_asked(before)}"
        for task, (before, now) in pairs.items()
        if before != now and task in facts.get("tasks", ())
    }


def _asked(endpoint: Endpoint) -> str:
    told = ", ".join(endpoint.classes) or endpoint.transform
    return endpoint.kind if told == "none" else f"{endpoint.kind} ({told})"


def _label_changes(before: pd.DataFrame, entry: Entry, of_other_kind: Collection[str]) -> list[str]:
    """ "labels changed: P001 TP53 0 -> 1", slides and tasks that came or went.

    Numbers of tasks that were of another kind, or had other classes, are not compared.
    """
    now = entry.cohort.slides
    tasks = [column for column in before if column in entry.cohort.tasks and column not in of_other_kind]
    both = before.merge(now, on="slide_id", suffixes=(" before", ""))
    changed = [
        f"{patient} {task} {_text(old, entry.cohort.endpoint(task))} -> {_text(new, entry.cohort.endpoint(task))}"
        for task in tasks
        for patient, old, new in both[["patient_id", f"{task} before", task]].itertuples(index=False)
        if not _same(old, new)
    ]
    moved = both.loc[both["patient_id before"] != both["patient_id"], "slide_id"]
    kinds = {
        "labels changed": list(dict.fromkeys(changed)),
        "patient changed of slides": list(moved),
        "new slides": sorted(set(now["slide_id"]) - set(before["slide_id"])),
        "slides that are gone": sorted(set(before["slide_id"]) - set(now["slide_id"])),
        "new tasks": [task for task in entry.cohort.tasks if task not in before],
        "tasks that are gone": [c for c in before if c not in ("slide_id", "patient_id", *entry.cohort.tasks)],
    }
    return [f"{kind}: {_some(names)}" for kind, names in kinds.items() if names]


def _feature_changes(run: Run, entry: Entry) -> list[str]:
    """ "features of 3 slides changed: s1, s2, s3"; empty if none did, or the folder does not know what they were."""
    if entry.record is None:
        return []
    now = {slide: entry.record.slides[slide] for slide in entry.cohort.by_slide.slides["slide_id"]}
    slides = changed_slides(read_record(run.content_file(entry.cohort.name)).slides, now)
    return [f"features of {len(slides)} slide{'s' * (len(slides) != 1)} changed: {_some(slides)}"] if slides else []


def _split_change(benchmark: Benchmark, entry: Entry, kept: Path, *, because_of_labels: bool) -> str:
    """How many patients changed sides, why, and how to keep the former sides."""
    try:
        before = benchmark.run.roles(entry.cohort.name).set_index("patient_id")
    except StoreError:  # a command was killed between its header and its tables
        return "splits changed"
    now = entry.split.table.set_index("patient_id")
    both = before.index.intersection(now.index)
    if list(before) == list(now):
        n_moved = int((before.loc[both] != now.loc[both]).any(axis=1).sum())
        what = f"splits moved: {n_moved} of {len(both)} patients changed sides"
    else:
        what = f"splits changed: {len(now.columns)} folds instead of {len(before.columns)}"
    why = " because the labels did" if because_of_labels and not benchmark.config.splits else ""
    return f"{what}{why}. To keep the former sides, add --splits {kept}"


def _same(old: float, new: float) -> bool:
    return old == new or (old != old and new != new)  # noqa: PLR0124 - NaN is no label


def _text(value: float, endpoint: Endpoint) -> str:
    """A label in the user's words."""
    if value != value:  # noqa: PLR0124 - NaN is no label
        return "unknown"
    if endpoint.kind in WITH_CLASSES:
        return endpoint.classes[int(value)]
    if endpoint.kind == "survival":
        return f"{'event' if value > 0 else 'censored'} at {abs(value):g} days"
    return f"{value:g}"


def _some(names: list[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
