"""Choose: the slides to draw, named by id or by how a model answered them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import NamedTuple

import pandas as pd

from milbench.errors import UsageError, unknown_name
from milbench.heatmap.stored import RunCohort
from milbench.metrics import youden_threshold


class Outcome(NamedTuple):
    """A kind of answer that a slide can be chosen by.

    Attributes
    ----------
    meaning : braces stand for the model.
    label : of the slides that are meant.
    called : 1 or 0, how the model must call the slide for the word to hold; the highest or the lowest probability wins.
    otherwise : what the slide is called where the model does not.
    """

    meaning: str
    label: int
    called: int
    otherwise: str


OUTCOMES = {
    "top-tp": Outcome("the positive test slide that {} scores highest", 1, 1, "highest positive"),
    "top-fp": Outcome("the negative test slide that {} scores highest", 0, 1, "highest negative"),
    "top-fn": Outcome("the positive test slide that {} scores lowest", 1, 0, "lowest positive"),
    "top-tn": Outcome("the negative test slide that {} scores lowest", 0, 0, "lowest negative"),
}
"""Word -> what it asks for."""

HALF = 0.5
"""Threshold where validation cannot give one, since it holds one class."""


class Chosen(NamedTuple):
    """A slide and why it is shown; `caption` is empty for a slide that was named."""

    slide_id: str
    caption: str = ""


def chosen_slides(cohort: RunCohort, words: Sequence[str], model: str, task: str, fold: int) -> list[Chosen]:
    """The slides that `words` ask for: ids, or `top-tp`, `top-fp`, `top-fn`, `top-tn` by the answers of `model`.

    Raises
    ------
    UsageError : neither an id of the cohort nor a known word, or no slide of that kind was tested.
    """
    ids = set(cohort.cohort.slides["slide_id"])
    return [Chosen(word) if word in ids else _by_outcome(cohort, word, model, task, fold) for word in words]


def _by_outcome(cohort: RunCohort, word: str, model: str, task: str, fold: int) -> Chosen:
    if word not in OUTCOMES:
        raise unknown_name("slide or choice of slides", word, OUTCOMES)
    wanted = OUTCOMES[word]
    trial = cohort.trial(model, task, fold)
    table: pd.DataFrame = trial.predictions()
    mine = table[table["task"] == task]
    rows = mine[(mine["role"] == "test") & (mine["target"] == wanted.label)]
    if rows.empty:
        raise UsageError(
            f"--slides {word}: no test slide of {task} has label {wanted.label} in fold {fold} of {cohort.name}."
        )
    first = rows.sort_values(["probability", "slide_id"], ascending=[not wanted.called, True]).iloc[0]
    caption = caption_of(word, float(first["probability"]), _threshold(mine), trial.info["model_title"])
    return Chosen(str(first["slide_id"]), caption)


def caption_of(word: str, probability: float, threshold: float, title: str) -> str:
    """Why the slide is shown; it is a true or false positive only where the model's answer reaches the threshold."""
    wanted = OUTCOMES[word]
    meaning = wanted.meaning.format(title)
    if (probability >= threshold) == bool(wanted.called):
        return f"{word}: {meaning}"
    side = "reaches" if probability >= threshold else "is below"
    return f"{wanted.otherwise}, not {word}: {meaning}; p = {probability:.2f} {side} the threshold {threshold:.2f}"


def _threshold(table: pd.DataFrame) -> float:
    """Youden's, of the validation slides."""
    rows = table[(table["role"] == "val") & table["target"].notna()]
    found = youden_threshold(rows["target"].to_numpy(dtype=float), rows["probability"].to_numpy(dtype=float))
    return HALF if isnan(found) else found
