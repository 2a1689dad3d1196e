"""Choose: the slides to draw, named by id or by how a model answered them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import isnan
from typing import NamedTuple

import pandas as pd

from milbench.cohorts.bag_names import SLIDE
from milbench.errors import UsageError, unknown_name
from milbench.heatmap.asked import Asked
from milbench.heatmap.stored import RunCohort
from milbench.metrics import youden_threshold
from milbench.store.trial import StoredTrial


class Outcome(NamedTuple):
    """A kind of answer that a slide can be chosen by.

    Attributes
    ----------
    meaning : braces stand for what a bag is, and for the model.
    label : of the slides that are meant.
    called : 1 or 0, how the model must call the slide for the word to hold; the highest or the lowest probability wins.
    otherwise : what the slide is called where the model does not.
    """

    meaning: str
    label: int
    called: int
    otherwise: str


OUTCOMES = {
    "top-tp": Outcome("the positive test {} that {} scores highest", 1, 1, "highest positive"),
    "top-fp": Outcome("the negative test {} that {} scores highest", 0, 1, "highest negative"),
    "top-fn": Outcome("the positive test {} that {} scores lowest", 1, 0, "lowest positive"),
    "top-tn": Outcome("the negative test {} that {} scores lowest", 0, 0, "lowest negative"),
}
"""Word -> what it asks for, of a binary task or one class."""

EXTREMES = {
    "highest": "the test {} that {} answers highest",
    "lowest": "the test {} that {} answers lowest",
}
"""Word -> what it asks for, of grades, scores and risks."""

HALF = 0.5
"""Threshold where validation cannot give one, since it holds one class."""


class Chosen(NamedTuple):
    """A slide, or a bag that joins slides, and why it is shown; `caption` is empty for one that was named."""

    slide_id: str
    caption: str = ""


def chosen_slides(cohort: RunCohort, words: Sequence[str], model: str, asked: Asked, fold: int) -> list[Chosen]:
    """The slides that `words` ask for: ids, or words of `OUTCOMES` or `EXTREMES` by the answers of `model`.

    Raises
    ------
    UsageError : neither an id of the cohort nor a word that the task knows, or no slide of that kind was tested.
    """
    members = cohort.cohort.members
    ids = {*members, *chain.from_iterable(members.values())}
    return [Chosen(word) if word in ids else _by_answer(cohort, word, model, asked, fold) for word in words]


def _by_answer(cohort: RunCohort, word: str, model: str, asked: Asked, fold: int) -> Chosen:
    known = OUTCOMES if asked.has_classes else EXTREMES
    if word not in known:
        if word in {*OUTCOMES, *EXTREMES}:
            raise UsageError(
                f"--slides {word}: task {asked.task} is {asked.endpoint.kind}. Write {' or '.join(known)} for it."
            )
        raise unknown_name("slide or choice of slides", word, known)
    trial = cohort.trial(model, asked.task, fold)
    rows = _answers(trial, asked)
    return (
        _by_outcome(cohort, word, trial, rows, asked, fold)
        if asked.has_classes
        else _extreme(cohort.cohort.bag, word, trial, rows, asked)
    )


def _answers(trial: StoredTrial, asked: Asked) -> pd.DataFrame:
    """What the model says of each slide: slide_id, role, is_positive (NaN where unknown), answer."""
    table = trial.answers()
    name = trial.endpoint_of[asked.task].answers[0] if not asked.class_name else f"probability of {asked.class_name}"
    rows = table[(table["task"] == asked.task) & (table["answer"] == name)]
    positive = [float(asked.is_positive(target)) if target == target else float("nan") for target in rows["target"]]  # noqa: PLR0124
    return rows.assign(is_positive=positive)


def _by_outcome(
    cohort: RunCohort, word: str, trial: StoredTrial, table: pd.DataFrame, asked: Asked, fold: int
) -> Chosen:
    wanted = OUTCOMES[word]
    rows = table[(table["role"] == "test") & (table["is_positive"] == wanted.label)]
    if rows.empty:
        raise UsageError(
            f"--slides {word}: no test {cohort.cohort.bag} of {asked.title} has label {wanted.label} in fold {fold} of {cohort.name}."
        )
    first = rows.sort_values(["prediction", "slide_id"], ascending=[not wanted.called, True]).iloc[0]
    caption = caption_of(
        word, float(first["prediction"]), _threshold(table), trial.info["model_title"], cohort.cohort.bag
    )
    return Chosen(str(first["slide_id"]), caption)


def _extreme(bag: str, word: str, trial: StoredTrial, table: pd.DataFrame, asked: Asked) -> Chosen:
    rows = table[(table["role"] == "test") & table["prediction"].notna()]
    first = rows.sort_values(["prediction", "slide_id"], ascending=[word == "lowest", True]).iloc[0]
    meaning = EXTREMES[word].format(bag, trial.info["model_title"])
    return Chosen(str(first["slide_id"]), f"{word}: {meaning} ({asked.told(float(first['prediction']))})")


def caption_of(word: str, probability: float, threshold: float, title: str, bag: str = SLIDE) -> str:
    """Why the slide is shown; it is a true or false positive only where the model's answer reaches the threshold."""
    wanted = OUTCOMES[word]
    meaning = wanted.meaning.format(bag, title)
    if (probability >= threshold) == bool(wanted.called):
        return f"{word}: {meaning}"
    side = "reaches" if probability >= threshold else "is below"
    return f"{wanted.otherwise}, not {word}: {meaning}; p = {probability:.2f} {side} the threshold {threshold:.2f}"


def _threshold(table: pd.DataFrame) -> float:
    """Youden's, of the validation slides."""
    rows = table[(table["role"] == "val") & table["is_positive"].notna()]
    found = youden_threshold(rows["is_positive"].to_numpy(dtype=float), rows["prediction"].to_numpy(dtype=float))
    return HALF if isnan(found) else found
