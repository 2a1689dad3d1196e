"""Evaluate: every finished trial of a run scores the slides of an external cohort.

Nothing of the external cohort decides anything: scalers, time bins, classes and thresholds are those of the training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.cohorts.cohort import SKIPPED, Cohort
from milbench.cohorts.coordinates import why_without_coords
from milbench.cohorts.feature_facts import feature_facts
from milbench.cohorts.optional import labels_of
from milbench.cohorts.record import read_record, see
from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fit import patient_labels
from milbench.engines.predictions import answers_table, predictions_table
from milbench.errors import DataError, StoreError
from milbench.external.checks import (
    compared_extraction,
    headers,
    refuse_another_width,
    refuse_odd_headers,
    refuse_other_bags,
    refuse_unlike_slides,
    without_shared,
)
from milbench.external.dealing import Deal, work_of
from milbench.external.labels import (
    absent_classes,
    aligned_labels,
    evaluated_tasks,
    known_tasks,
    label_shift,
    label_warnings,
    refuse_another_unit,
    why_no_score,
)
from milbench.external.scored import (
    CONTENT,
    CohortIdentity,
    ScoredTrial,
    external_folder,
    read_scored,
    scored_folder,
    write_scored,
)
from milbench.external.scoring import Checkpoint, Logits, Scored, Scorer, score
from milbench.external.trained import Trained
from milbench.heatmap.stored import StoredModel, outputs_of
from milbench.labels.finding import some
from milbench.store.csv_files import exact_csv
from milbench.store.files import write_atomically, writing
from milbench.store.trial import StoredTrial

Watch = Callable[[Iterable[str], str], Iterable[str]]

Elsewhere = Callable[[Sequence[StoredTrial]], None]

CHECKPOINT = "scores-{}.npz"
"""Name of a checkpoint, by the trials that it is of."""


@dataclass(frozen=True, eq=False)
class External:
    """An external cohort that has passed all checks.

    Attributes
    ----------
    source : the trials that score it.
    cohort : as it was read.
    slides : slide_id, patient_id and one column per task of the run, classes numbered as in the training.
    evaluated : tasks that the cohort has labels of.
    remarks : what was noticed, a line each.
    warnings : what makes its labels doubtful, a line each.
    shift : labels of both cohorts (`label_shift`).
    """

    source: Trained
    cohort: Cohort
    slides: pd.DataFrame
    evaluated: tuple[str, ...]
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]
    shift: pd.DataFrame

    @property
    def name(self) -> str:
        """The cohort's name."""
        return self.cohort.name

    @property
    def slide_ids(self) -> list[str]:
        """The slides that are scored, by themselves or joined."""
        members = self.cohort.members
        return [slide for bag in self.slides["slide_id"] for slide in members[bag]]

    @property
    def identity(self) -> CohortIdentity:
        """What decides which slides are scored, and against which labels."""
        rows = hashlib.sha256(exact_csv(self.slides).encode()).hexdigest()
        hashes = labels_of(self.cohort.optional, self.evaluated)
        return CohortIdentity(self.name, self.cohort.fingerprint, hashes, rows)


def checked(source: Trained, cohort: Cohort, *, allow_overlap: bool = False) -> External:
    """The cohort, held against the training; no feature is read but heads of files.

    Raises
    ------
    DataError : patients in common, another encoder, width, kind of task, class or unit of time.
    """
    refuse_other_bags(cohort.bag, source.bag, f"cohort '{cohort.name}'")
    source, left_out = source.for_slides(lambda: why_without_coords(cohort))
    tasks, width = source.tasks, source.in_features
    evaluated = evaluated_tasks(list(tasks), cohort)
    refuse_another_width(cohort, width, source.dataset)
    slides = aligned_labels(cohort, tasks, evaluated)
    joined = cohort.of_slides.slides if cohort.of_slides else None
    slides, remarks = without_shared(
        slides, source.patients, cohort=cohort.name, dataset=source.dataset, allow=allow_overlap, joined=joined
    )
    evaluated = known_tasks(cohort.name, slides, evaluated)
    own = source.labels
    for task in evaluated:
        if tasks[task].kind == "survival" and own is not None:
            of_both = (patient_labels(table, task, tasks[task]) for table in (own, slides))
            refuse_another_unit(cohort.name, task, *of_both)
    remarks += _extraction(cohort, slides, source)
    remarks += _unlabelled(slides, tasks, evaluated, cohort.bag)
    remarks += _scaling(cohort, source)
    remarks += [note for note in cohort.notes if note.startswith(SKIPPED)]
    remarks += left_out
    warnings = label_warnings(cohort, slides["patient_id"], evaluated, source.notes)
    shift = label_shift(tasks, evaluated, own, slides)
    return External(source, cohort, slides, evaluated, tuple(remarks), tuple(warnings), shift)


def _extraction(cohort: Cohort, slides: pd.DataFrame, source: Trained) -> list[str]:
    every = cohort.members
    members = {bag: every[bag] for bag in slides["slide_id"]}
    theirs = headers(cohort.by_slide, chain.from_iterable(members.values()))
    refuse_odd_headers(theirs, source.in_features, cohort.name)
    if cohort.of_slides:
        refuse_unlike_slides(members, theirs)
    if not source.features and source.training is None:
        return ["the training's feature files are not there, so encoder and magnification were not compared"]
    return compared_extraction(feature_facts(theirs.values()), source.features, f"cohort '{cohort.name}'")


def _unlabelled(slides: pd.DataFrame, tasks: Mapping[str, Endpoint], evaluated: Sequence[str], bag: str) -> list[str]:
    """Lines on tasks without a column, slides without a label, and classes without a patient."""
    absent = [task for task in tasks if task not in evaluated]
    lines = [f"not evaluated, because the cohort has no labels of them: {', '.join(absent)}"] if absent else []
    for task in evaluated:
        unknown = int(slides[task].isna().sum())
        if unknown:
            lines.append(f"{task}: {unknown} of {len(slides)} {bag}s have no label")
        classes = absent_classes(slides[task], tasks[task])
        if classes:
            undefined = ", so a mean over classes is undefined" if tasks[task].kind == "multiclass" else ""
            lines.append(f"{task}: no {bag} has the class {', '.join(classes)}{undefined}")
        elif why := why_no_score(slides[task].dropna(), tasks[task], bag):
            lines.append(f"{task}: {why}")
    return lines


def _scaling(cohort: Cohort, source: Trained) -> list[str]:
    used = {str(trial.info["feature_scaling"]) for trial in source.trials}
    if cohort.feature_scaling in used:
        return []
    return [
        f"features are scaled as in the training ({', '.join(sorted(used))}); the cohort's own feature_scaling "
        f"'{cohort.feature_scaling}' is not used"
    ]


class Scores(NamedTuple):
    """What all trials say of an external cohort.

    Attributes
    ----------
    trials : with the cohort as their test side, in the order of the run.
    n_new : trials that scored it now; the others had done so before.
    n_replaced : those of them whose scores of other labels, features or weights, or damaged ones, gave way.
    """

    trials: list[ScoredTrial]
    n_new: int
    n_replaced: int


def scored(
    external: External, device: str, watch: Watch, deal: Deal | None = None, elsewhere: Elsewhere | None = None
) -> Scores:
    """What every trial says of the cohort, from disk where it is there, else computed and stored.

    Parameters
    ----------
    deal : how slides are dealt to worker processes; None = all are scored in this process.
    elsewhere : lets other machines score the cohort with some trials, and store what they say; None = this machine does.

    Raises
    ------
    DataError : a slide of the run's cohort hides among the slides under another name, or a slide cannot be scored.
    StoreError : the run folder cannot be written.
    """
    external = _seen(external)
    run, identity, trials = external.source.run, external.identity, external.source.trials

    def stored() -> dict[str, ScoredTrial]:
        read = (read_scored(run, identity, trial, external.evaluated) for trial in trials)
        return {each.id: each for each in read if each is not None}

    found = stored()
    pending = [trial for trial in trials if trial.id not in found]
    n_replaced = sum(scored_folder(run, identity.name, trial.id).exists() for trial in pending)
    if pending:
        if elsewhere is None:
            _compute(external, pending, device, watch, deal)
        else:
            elsewhere(pending)
        found = stored()
    if lost := [trial.id for trial in trials if trial.id not in found]:
        raise StoreError(
            f"scores of '{identity.name}' by {len(lost)} trials are missing ({some(lost)}): labels or weights changed "
            "meanwhile, or another command wrote scores of other slides or labels under this name. If two cohorts have one name, "
            "give one of them another `name:`. Then give the same command again."
        )
    return Scores(list(found.values()), len(pending), n_replaced)


def _seen(external: External) -> External:
    """The cohort under the fingerprint of all that its files hold; files that are as they were are not read again."""
    run, cohort = external.source.run, external.cohort
    if not cohort.files:
        return external
    path = external_folder(run, cohort.name) / CONTENT
    before = read_record(path)
    seen = see(cohort, before, before.slides)
    with writing(run.path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, seen.record.to_json())
    own = read_record(run.content_file(external.source.dataset)).slides
    known = {content.sha256: slide for slide, content in own.items()}
    copies = [slide for slide in external.slide_ids if seen.record.slides[slide].sha256 in known]
    if copies:
        twin = known[seen.record.slides[copies[0]].sha256]
        raise DataError(
            f"{len(copies)} slides of cohort '{cohort.name}' hold the very features of slides of the run's cohort "
            f"'{external.source.dataset}' ({copies[0]} those of {twin}). Leave them out of the labels."
        )
    return replace(external, cohort=replace(cohort, fingerprint=seen.cohort.fingerprint))


def _compute(external: External, pending: Sequence[StoredTrial], device: str, watch: Watch, deal: Deal | None) -> None:
    """Score the cohort with the models of these trials, and store what each says."""
    run, identity = external.source.run, external.identity
    facts = {"trials": [identity.of_trial(trial) for trial in pending], "device": device}
    # commands that score other trials at the same time have a checkpoint of their own
    of_trials = hashlib.sha256("".join(trial.id for trial in pending).encode()).hexdigest()[:8]
    checkpoint = Checkpoint(external_folder(run, external.name) / CHECKPOINT.format(of_trials), facts)
    slides = [str(slide) for slide in external.slides["slide_id"]]
    models = external.source.models(pending)
    with writing(run.path):
        every = score(_each(models, external, device, deal), slides, checkpoint, watch)
    for trial, logits in zip(pending, every, strict=True):
        write_scored(run, identity, trial, predictions_of(trial, external.slides, logits), device)
    checkpoint.delete()


def _each(
    models: Sequence[StoredModel], external: External, device: str, deal: Deal | None
) -> Callable[[Sequence[str]], Iterator[Scored]]:
    """What scores slides: workers, or this process."""
    if deal is not None:
        return partial(deal, work_of(external.source, models, external.cohort.load))
    return partial(Scorer(models, device).each, load=external.cohort.load)


def predictions_of(trial: StoredTrial, slides: pd.DataFrame, logits: Logits) -> pd.DataFrame:
    """What a trial says of slides, as its own predictions are stored; all slides are on the side "test".

    Parameters
    ----------
    slides : slide_id, patient_id and one column per task.
    logits : [n, W].
    """
    tasks = tuple(trial.info["tasks"])
    labels = slides[list(tasks)].to_numpy(dtype=np.float64)
    probabilities = sigmoid(logits)
    if not trial.endpoints:
        return predictions_table("test", slides, tasks, labels, probabilities)
    return answers_table("test", slides, tasks, outputs_of(trial).endpoints, labels, logits, probabilities)


def sigmoid(logits: Logits) -> NDArray[np.float64]:
    """Sigmoid of each logit, as a trial's own probabilities are made."""
    import torch

    from milbench.endpoints.probabilities import sigmoids

    return sigmoids(torch.from_numpy(logits))
