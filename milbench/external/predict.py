"""Predict: what a finished run's models say of slides without labels, per training and as one ensemble.

The table has one row per slide or patient, model, task and answer, with a column per training. There is no metric in it,
because nothing is known of these slides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from milbench.bag import Bag
from milbench.cohorts.bag_names import PATIENT, SLIDE
from milbench.cohorts.feature_facts import feature_facts
from milbench.cohorts.patient_bags import slides_by_patient
from milbench.endpoints.answers import answers_of, decoded_grade
from milbench.endpoints.fitted import FittedEndpoint
from milbench.errors import DataError
from milbench.external.checks import compared_extraction, refuse_unlike_slides
from milbench.external.evaluate import Watch, sigmoid
from milbench.external.ranges import Ranges, mean_norm
from milbench.external.scoring import Checkpoint, Logits, Scorer, score
from milbench.external.slides import NewSlides
from milbench.external.thresholds import Thresholds, binary_thresholds, risk_threshold
from milbench.external.trained import Trained
from milbench.heatmap.stored import outputs_of
from milbench.stats.ensemble import on_one_scale
from milbench.store.trial import WEIGHTS, StoredTrial

Floats = NDArray[np.float64]

LEVELS = (SLIDE, PATIENT)
FIRST = ("level", "slide_id", "patient_id", "model", "task", "answer")
LAST = (
    "mean", "sd", "ensemble", "threshold", "label", "ensemble_threshold", "ensemble_label", "n_patches", "flags",
)  # fmt: skip
HIGH_RISK, LOW_RISK = "high risk", "low risk"


class Facts(NamedTuple):
    """What was seen of the slides while they were read; [n] each."""

    n_patches: NDArray[np.int64]
    norms: Floats


class Answered(NamedTuple):
    """What all trainings of one model say of one task.

    Attributes
    ----------
    trials : T trainings.
    names : of their columns, such as "fold0-seed42".
    fitted : the task as each training fitted it.
    answers : [n, A] of each training; A may differ, since time bins do.
    """

    model: str
    task: str
    trials: tuple[StoredTrial, ...]
    names: tuple[str, ...]
    fitted: tuple[FittedEndpoint, ...]
    answers: tuple[Floats, ...]


def compared_with_training(slides: NewSlides, source: Trained) -> list[str]:
    """Lines on how the slides' features were made, beside those of the training; only heads of files are read.

    Raises
    ------
    DataError : a slide is empty, or was not extracted as those of the training, or slides of a patient make no bag.
    """
    width, headers = source.in_features, {}
    for slide in slides.slides["slide_id"]:
        header = headers[slide] = slides.folder.header(slide)
        if header.width != width or not header.n_patches:
            raise DataError(
                f"slide {slide}: {header.n_patches} patches of width {header.width}; the models take one or more of width "
                f"{width}. Extract it with the encoder of the training, or take its file away."
            )
    if slides.bag == PATIENT:
        refuse_unlike_slides(slides_by_patient(slides.slides), headers)
    return compared_extraction(feature_facts(headers.values()), source.features, "slides to predict")


def predict(
    source: Trained, slides: NewSlides, device: str, checkpoint: Checkpoint, ranges: Ranges | None, watch: Watch
) -> pd.DataFrame:
    """Rows with the columns `FIRST`, one per training, and `LAST`; slides first, then patients.

    Raises
    ------
    DataError : a slide cannot be scored.
    """
    scorer = _MeasuringScorer(source.models(source.trials), device)
    *logits, measured = score(
        lambda left: scorer.each(left, slides.load), list(slides.table["slide_id"]), checkpoint, watch
    )
    facts = Facts(measured[:, 0].astype(np.int64), measured[:, 1].astype(np.float64))
    levels = LEVELS if slides.bag == SLIDE else (PATIENT,)
    return table_of(list(answered(source.trials, logits)), slides.table, facts, ranges, levels)


class _MeasuringScorer(Scorer):
    """A scorer that also notes the number of patches and their mean length, since a slide is read once."""

    def logits(self, bag: Bag) -> list[Logits]:
        return [*super().logits(bag), np.array([len(bag), mean_norm(bag)], dtype=np.float32)]


def checkpoint_identity(source: Trained, slides: NewSlides, device: str) -> dict[str, object]:
    """What must be the same for a killed command to go on."""
    trials = [[trial.info["key"], trial.info["payload_sha256"].get(WEIGHTS, "")] for trial in source.trials]
    return {"trials": trials, "slides": slides.identity, "device": device}


def answered(trials: Sequence[StoredTrial], logits: Sequence[Logits]) -> Iterator[Answered]:
    """By model and task, in the order of the trials' models and tasks."""
    found: dict[tuple[str, str], list[tuple[StoredTrial, FittedEndpoint, Floats]]] = {}
    for trial, own in zip(trials, logits, strict=True):
        outputs = outputs_of(trial)
        for task, fitted, place in zip(trial.info["tasks"], outputs.endpoints, outputs.slices, strict=True):
            values = sigmoid(own)[:, place] if fitted.kind == "binary" else answers_of(fitted, own[:, place])
            found.setdefault((str(trial.info["model"]), str(task)), []).append((trial, fitted, values))
    for (model, task), parts in found.items():
        of_task = sorted(parts, key=lambda part: (part[0].info["fold"], part[0].info["seed"]))
        every, fitted_of_all, values_of_all = zip(*of_task, strict=True)
        names = tuple(f"fold{trial.info['fold']}-seed{trial.info['seed']}" for trial in every)
        yield Answered(model, task, every, names, fitted_of_all, values_of_all)


def table_of(
    every: Sequence[Answered],
    slides: pd.DataFrame,
    facts: Facts,
    ranges: Ranges | None,
    levels: Sequence[str] = LEVELS,
) -> pd.DataFrame:
    """The table of all predictions.

    Parameters
    ----------
    slides : slide_id and patient_id.
    ranges : of the training slides; None = nothing is flagged.
    levels : those of `LEVELS` that have rows; patients alone if bags are patients.
    """
    trainings = list(dict.fromkeys(name for each in every for name in each.names))
    rows = pd.concat([_rows(each, slides, level) for level in levels for each in every], ignore_index=True)
    of_slides = _facts(slides, facts, ranges)
    rows = rows.merge(of_slides, on=["level", "slide_id", "patient_id"], how="left")
    order = rows["level"].map(LEVELS.index).to_numpy()
    # within a level slide by slide, so that all that is said of one stands together
    place = pd.factorize(rows["slide_id"] + "/" + rows["patient_id"])[0]
    return rows.iloc[np.lexsort((place, order))].reset_index(drop=True)[[*FIRST, *trainings, *LAST]]


def _facts(slides: pd.DataFrame, facts: Facts, ranges: Ranges | None) -> pd.DataFrame:
    """n_patches and flags of each slide and patient; a patient has the flags of all slides."""
    table = slides.assign(level="slide", n_patches=facts.n_patches, norm=facts.norms)
    table["flags"] = [
        "; ".join(ranges.flags(n, norm)) if ranges else ""
        for n, norm in zip(table["n_patches"], table["norm"], strict=True)
    ]
    patients = table.groupby("patient_id", as_index=False).agg(
        n_patches=("n_patches", "sum"), flags=("flags", lambda told: "; ".join(dict.fromkeys(filter(None, told))))
    )
    patients = patients.assign(level="patient", slide_id="")
    return pd.concat([table.drop(columns="norm"), patients], ignore_index=True)


def _rows(each: Answered, slides: pd.DataFrame, level: str) -> pd.DataFrame:
    """Rows of one model and task at one level."""
    units = slides if level == "slide" else slides[["patient_id"]].drop_duplicates().assign(slide_id="")
    owner = np.arange(len(slides)) if level == "slide" else pd.factorize(slides["patient_id"])[0]
    answers = tuple(_mean_by(owner, values) for values in each.answers)
    names = list(dict.fromkeys(name for fitted in each.fitted for name in fitted.answers))
    by_training = np.full((len(units), len(names), len(each.names)), np.nan)
    for number, (fitted, values) in enumerate(zip(each.fitted, answers, strict=True)):
        by_training[:, [names.index(name) for name in fitted.answers], number] = values
    combined = _ensemble(each, owner, names)
    calls = _calls(each, level, by_training, combined, names)
    parts = []
    for place, name in enumerate(names):
        values = by_training[:, place]
        known = ~np.isnan(values).all(axis=1)
        mean = np.full(len(units), np.nan)
        mean[known] = np.nanmean(values[known], axis=1)
        part = units[["slide_id", "patient_id"]].assign(level=level, model=each.model, task=each.task, answer=name)
        part = part.assign(**dict(zip(each.names, values.T, strict=True)), mean=mean)
        part = part.assign(sd=values.std(axis=1, ddof=1) if len(each.names) > 1 else np.nan)
        parts.append(part.assign(ensemble=combined[:, place], **calls))
    return pd.concat(parts, ignore_index=True)


def _mean_by(owner: NDArray[np.int64], values: Floats) -> Floats:
    """Mean over the slides of each unit, [u, A]."""
    sums = np.zeros((owner.max() + 1, values.shape[1]))
    np.add.at(sums, owner, values)
    return np.asarray(sums / np.bincount(owner)[:, None])


def _ensemble(each: Answered, owner: NDArray[np.int64], names: Sequence[str]) -> Floats:
    """All trainings as one [u, answers]: the mean over trainings, then over slides, on a scale that they share.

    NaN for an answer that not all trainings give, such as survival at the edge of one fold's time bin.
    """
    found = np.full((owner.max() + 1, len(names)), np.nan)
    kind = each.fitted[0].kind
    for place, name in enumerate(names):
        if not all(name in fitted.answers for fitted in each.fitted):
            continue
        columns = [
            values[:, fitted.answers.index(name)] for fitted, values in zip(each.fitted, each.answers, strict=True)
        ]
        if kind != "survival" or name == "risk":
            columns = [
                on_one_scale(kind, column, _training_risk(trial, each.task))
                for trial, column in zip(each.trials, columns, strict=True)
            ]
        mean = _mean_by(owner, np.mean(columns, axis=0)[:, None])[:, 0]
        found[:, place] = expit(mean) if kind == "binary" else mean
    return found


def _training_risk(trial: StoredTrial, task: str) -> Floats:
    """[2] mean and standard deviation of the trial's training risks; empty for other kinds than survival."""
    told = trial.info.get("training_risk", {}).get(task)
    return np.array([told["mean"], told["sd"]] if told else [])


def _calls(
    each: Answered, level: str, by_training: Floats, combined: Floats, names: Sequence[str]
) -> dict[str, object]:
    """Columns of thresholds and labels of one model and task."""
    fitted = each.fitted[0]
    if fitted.kind == "binary":
        at = binary_thresholds(each.trials, each.task, level)
        return _two(at, by_training[:, 0].mean(axis=1), combined[:, 0], "1", "0")
    if fitted.kind == "survival":
        at = risk_threshold(each.trials, each.task)
        return _two(at, np.full(len(combined), np.nan), combined[:, 0], HIGH_RISK, LOW_RISK)
    nothing = {"threshold": np.nan, "ensemble_threshold": np.nan}
    if fitted.kind == "regression":
        return {**nothing, "label": "", "ensemble_label": ""}
    classes, means = fitted.endpoint.classes, by_training.mean(axis=2)
    return {
        **nothing,
        "label": _class_of(fitted, classes, means),
        "ensemble_label": _class_of(fitted, classes, combined),
    }


def _two(at: Thresholds, mean: Floats, combined: Floats, above: str, below: str) -> dict[str, object]:
    return {
        "threshold": at.of_folds, "label": _side_of(mean, at.of_folds, above, below),
        "ensemble_threshold": at.of_ensemble, "ensemble_label": _side_of(combined, at.of_ensemble, above, below),
    }  # fmt: skip


def _side_of(values: Floats, threshold: float, above: str, below: str) -> NDArray[np.object_]:
    called = np.where(values >= threshold, above, below).astype(object)
    return np.where(np.isnan(values) | np.isnan(threshold), "", called)


def _class_of(fitted: FittedEndpoint, classes: Sequence[str], answers: Floats) -> NDArray[np.object_]:
    """The most probable class, or the rounded expected grade."""
    named = np.array(classes, dtype=object)
    if fitted.kind == "ordinal":
        return np.asarray(named[decoded_grade(answers[:, 0], len(classes)).astype(int)])
    return np.asarray(named[answers.argmax(axis=1)])
